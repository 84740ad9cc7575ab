"""What one search works on: the teacher, its logits, and the rows, divided by what they are used for.

Train rows teach the students. Validation rows are divided in two: candidates are ranked on one part, and the
finalists are judged on the other. A model that is chosen on the rows that it is judged on is judged too well.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from modelmill.compression.options import CompressionOptions
from modelmill.compression.search.recipes import Shape
from modelmill.errors import DatasetError, ModelError
from modelmill.models.classifier import Classifier, load_classifier
from modelmill.tasks.calibration import FloatArray
from modelmill.tasks.examples import LabelledData
from modelmill.tokens.texts import Texts
from modelmill.training.rows import EncodedRows
from modelmill.training.teacher import Teacher, check_teacher, teacher_logits
from modelmill.workspace import Workspace

_FEWEST_ROWS = 10
_RANKING_SHARE = 1 / 3
"""Share of the validation rows that candidates are ranked on."""


@dataclass(frozen=True)
class HeldOutRows:
    """Validation rows for one purpose."""

    texts: list[str]
    encoded: EncodedRows
    """The same rows, as the teacher's tokenizer makes them."""
    teacher_logits: FloatArray
    """The teacher's logits in its own runtime, ``(rows, classes)``."""

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def teacher_right(self) -> npt.NDArray[np.bool_]:
        """Whether the teacher's answer is each row's label, ``(rows,)``."""
        return self.right(self.teacher_logits)

    def right(self, logits: FloatArray) -> npt.NDArray[np.bool_]:
        """Return whether a model's answer is each row's label.

        :param logits: the model's, ``(rows, classes)``.
        :return: ``(rows,)``.
        """
        found: npt.NDArray[np.bool_] = logits.argmax(axis=1) == self.encoded.targets
        return found


@dataclass(frozen=True)
class Search:
    """One search for a compressed model."""

    options: CompressionOptions
    workspace: Workspace
    teacher: Teacher
    classifier: Classifier
    """The teacher in PyTorch."""
    shape: Shape
    train: EncodedRows
    """Train rows, as long as the teacher reads them."""
    soft: FloatArray
    """The teacher's logits for the train rows, ``(rows, classes)``."""
    ranking: HeldOutRows
    judging: HeldOutRows


def prepare(
    data: LabelledData, texts: Texts, teacher: Teacher, options: CompressionOptions, workspace: Workspace
) -> Search:
    """Compute the teacher's logits, and divide the rows.

    :param data: labelled rows of the texts, which the teacher learned.
    :param texts: all texts.
    :param teacher: a model of format ``torch``.
    :param options: how to search.
    :param workspace: its cache keeps the teacher's logits.
    :return: what the search works on.
    :raises ModelError: if the teacher does not fit the rows.
    :raises DatasetError: if there are too few validation rows.
    """
    folder, info = teacher.folder, teacher.info
    classifier = load_classifier(folder)
    if not info.task.exclusive:
        raise ModelError(
            "compress takes a teacher that gives one class a row",
            got=f"{info.label}: {info.target}",
            remedy="export it with quantize",
        )
    check_teacher(folder, data)
    if len(data.validation) < _FEWEST_ROWS:
        raise DatasetError(
            f"compress needs at least {_FEWEST_ROWS} labelled validation rows to judge models on",
            got=len(data.validation),
            remedy="set split: {validation: 0.2} in build_dataset; the more rows, the smaller a drop can be "
            "told from chance",
        )
    tokens = texts.tokens(folder, max_tokens=info.max_tokens)
    train, validation = EncodedRows.of(tokens, data.train), EncodedRows.of(tokens, data.validation)
    held_out = texts.values(data.validation.places)
    workspace.log(f"the teacher answers {len(train.targets):,} train and {len(held_out):,} validation rows")
    soft, answers = (
        teacher_logits(teacher.scorer, rows.tokens, digest=teacher.digest, workspace=workspace)
        for rows in (train, validation)
    )
    order = np.random.default_rng(options.seed).permutation(len(held_out))
    count = max(1, round(len(held_out) * _RANKING_SHARE))

    def part(rows: npt.NDArray[np.int64]) -> HeldOutRows:
        some = EncodedRows(validation.tokens.take(rows), validation.targets[rows])
        return HeldOutRows([held_out[row] for row in rows], some, np.asarray(answers[rows]))

    return Search(
        options=options,
        workspace=workspace,
        teacher=teacher,
        classifier=classifier,
        shape=Shape.of(classifier.encoder, tokens=info.encoder_tokens or info.max_tokens),
        train=train,
        soft=soft,
        ranking=part(np.sort(order[:count])),
        judging=part(np.sort(order[count:])),
    )
