"""What one compression works on: the teacher, its answers, and the rows, parted by what they are used for.

Train rows teach the students. Validation rows are parted in two: those that candidates are ranked by, and
those that only the finalists are judged on. Whoever chooses by rows that he is judged on is judged too well.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from modelmill.artifacts import DatasetRef, ModelRef
from modelmill.component import StepContext
from modelmill.compression.options import CompressionOptions
from modelmill.compression.search.recipes import Shape
from modelmill.errors import DatasetError, ModelError
from modelmill.evaluation.rows import labelled_rows
from modelmill.models.bundle import BundleInfo
from modelmill.models.classifier import Classifier, load_classifier
from modelmill.models.scorers import load_scorer
from modelmill.tasks.examples import read_labelled
from modelmill.tokens.cache import tokenised
from modelmill.training.rows import EncodedRows
from modelmill.training.teacher import check_teacher, teacher_logits

Floats = npt.NDArray[np.float32]

_FEWEST_ROWS = 10
_CHOOSING_SHARE = 1 / 3
"""Of the validation rows, those that candidates are ranked by."""


@dataclass(frozen=True)
class HeldRows:
    """Validation rows for one purpose."""

    texts: list[str]
    data: EncodedRows
    """The same rows, as the teacher's tokenizer makes them."""
    teacher: Floats
    """The teacher's logits in its own runtime, ``(rows, classes)``."""

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def teacher_right(self) -> npt.NDArray[np.bool_]:
        """Whether the teacher answers each row as its label says, ``(rows,)``."""
        return self.right(self.teacher)

    def right(self, logits: Floats) -> npt.NDArray[np.bool_]:
        """Return whether a model answers each row as its label says.

        :param logits: the model's, ``(rows, classes)``.
        :return: ``(rows,)``.
        """
        found: npt.NDArray[np.bool_] = logits.argmax(axis=1) == self.data.targets
        return found


@dataclass(frozen=True)
class Task:
    """A compression."""

    config: CompressionOptions
    context: StepContext
    dataset: DatasetRef
    parent: ModelRef
    """The teacher in MLflow."""
    folder: Path
    """The teacher's bundle."""
    info: BundleInfo
    teacher: Classifier
    shape: Shape
    train: EncodedRows
    """Train rows, as long as the teacher reads them."""
    soft: Floats
    """The teacher's logits for the train rows, ``(rows, classes)``."""
    choosing: HeldRows
    judging: HeldRows


def prepare(config: CompressionOptions, dataset: DatasetRef, teacher: ModelRef, context: StepContext) -> Task:
    """Load the teacher, and part the rows.

    :param config: how to compress.
    :param dataset: what the teacher learned.
    :param teacher: a ``torch`` model.
    :param context: the step.
    :return: the task.
    :raises InputError: if the teacher does not fit the dataset.
    :raises DatasetError: if there are too few validation rows.
    """
    from modelmill.registry.bundles import fetch_bundle

    folder = fetch_bundle(teacher, context.cache)
    model = load_classifier(folder)
    info = BundleInfo.load(folder)
    if info.target != "class":
        raise ModelError(
            "compress takes a teacher that gives one class a row",
            got=f"{info.label}: {info.target}",
            remedy="export it with quantize",
        )
    data = read_labelled(dataset, label=info.label)
    check_teacher(folder, data)
    if len(data.validation) < _FEWEST_ROWS:
        raise DatasetError(
            f"compress needs at least {_FEWEST_ROWS} labelled validation rows to judge models on",
            got=len(data.validation),
            remedy="set split: {validation: 0.2} in build_dataset; the more rows, the smaller a drop can be "
            "told from chance",
        )
    context.run.log_dataset(dataset, context="training", rows=len(data.train) + len(data.validation))
    tokens = tokenised(dataset, folder, max_length=info.max_tokens, cache=context.cache, log=context.log)
    train, validation = EncodedRows.of(tokens, data.train), EncodedRows.of(tokens, data.validation)
    texts = labelled_rows(dataset, "validation", info.label).texts
    scorer = load_scorer(folder)
    context.log(f"the teacher answers {len(train.targets):,} train and {len(texts):,} validation rows")
    soft = teacher_logits(scorer, train.tokens, digest=teacher.digest, workspace=context)
    answers = teacher_logits(scorer, validation.tokens, digest=teacher.digest, workspace=context)
    order = np.random.default_rng(config.seed).permutation(len(texts))
    count = max(1, round(len(texts) * _CHOOSING_SHARE))

    def held(rows: npt.NDArray[np.int64]) -> HeldRows:
        some = EncodedRows(validation.tokens.take(rows), validation.targets[rows])
        return HeldRows([texts[row] for row in rows], some, np.asarray(answers[rows]))

    return Task(
        config=config,
        context=context,
        dataset=dataset,
        parent=teacher,
        folder=folder,
        info=info,
        teacher=model,
        shape=Shape.of(model.encoder, tokens=info.encoder_tokens or info.max_tokens),
        train=train,
        soft=soft,
        choosing=held(np.sort(order[:count])),
        judging=held(np.sort(order[count:])),
    )
