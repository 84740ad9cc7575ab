"""What one search works on: the teacher, its logits, and the rows, divided by what they are used for.

Train rows teach the students. Validation rows are divided in two: candidates are ranked on one part, and the
finalists are judged on the other. A model that is chosen on the rows that it is judged on is judged too well.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from modelmill.compression.options import COMPRESSION_EXTENSIONS, CompressionOptions
from modelmill.compression.search.budget import Drop, metric_drop
from modelmill.compression.search.recipes import Shape
from modelmill.compression.search.store import Store
from modelmill.errors import DatasetError
from modelmill.extensions import distributions_of
from modelmill.models.bundle import BundleInfo
from modelmill.models.classifier import Classifier, load_classifier
from modelmill.tasks.base import Answers
from modelmill.tasks.calibration import Calibration, FloatArray
from modelmill.tasks.examples import LabelledData
from modelmill.tasks.metrics import Metric
from modelmill.tokens.texts import Texts
from modelmill.training.rows import EncodedRows
from modelmill.training.teacher import Teacher, check_teacher, teacher_logits
from modelmill.version import __version__
from modelmill.workspace import Workspace

_FEWEST_ROWS = 10
_RANKING_SHARE = 1 / 3
"""Share of the validation rows that candidates are ranked on."""
_KEY_OPTIONS = {"epochs", "batch_size", "learning_rate", "temperature", "soft_weight", "seed"}
"""What a student is, beside its recipe, the teacher and the rows."""
_STANDARD_ERROR = 0.6827
"""Confidence of an interval of one standard error to either side."""


@dataclass(frozen=True)
class HeldOutRows:
    """Validation rows for one purpose."""

    texts: list[str]
    encoded: EncodedRows
    """The same rows, as the teacher's tokenizer makes them."""
    teacher_logits: FloatArray
    """The teacher's logits in its own runtime, ``(rows, outputs)``."""
    teacher: BundleInfo

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def metric(self) -> Metric:
        """What models are judged by: the first metric of the label's task."""
        return self.teacher.task.metrics[0]

    @cached_property
    def truth(self) -> Answers:
        """The labels: what a perfect model answers."""
        task, info = self.teacher.task, self.teacher
        # In double precision: numbers are compared as the table has them.
        perfect: Any = task.indicators(self.encoded.targets, info.outputs)
        return task.decide(perfect, known=info.classes, classes=info.classes, calibration=None)

    @cached_property
    def teacher_answers(self) -> Answers:
        """The teacher's answers."""
        return self.answers(self.teacher_logits, self.teacher.calibration)

    def answers(self, logits: FloatArray, calibration: Calibration | None) -> Answers:
        """Return a model's answers.

        :param logits: the model's, ``(rows, outputs)``.
        :param calibration: what makes probabilities of them.
        :return: in the form in which they are compared with :attr:`truth`.
        """
        info = self.teacher
        return info.task.decide(logits, known=info.classes, classes=info.classes, calibration=calibration)

    def below_teacher(self, answers: Answers) -> float:
        """Return the teacher's metric minus that of a model."""
        return self.metric.of(self.truth, self.teacher_answers) - self.metric.of(self.truth, answers)

    def doubt(self, answers: Answers) -> float:
        """Return the standard error of :meth:`below_teacher`."""
        truth, teacher = self.truth, self.teacher_answers
        if self.metric.right is not None:
            lost = self.metric.right(truth, teacher).astype(np.float64) - self.metric.right(truth, answers)
            return float(lost.std() / np.sqrt(len(self)))
        found = self.metric.difference(truth, teacher, answers, confidence=_STANDARD_ERROR, resamples=500)
        return (found.high - found.low) / 2

    def drop(self, answers: Answers, *, confidence: float) -> Drop:
        """Bound how far below the teacher a model is, see :func:`metric_drop`."""
        return metric_drop(self.metric, self.truth, self.teacher_answers, answers, confidence=confidence)


@dataclass(frozen=True)
class Search:
    """One search for a compressed model."""

    options: CompressionOptions
    workspace: Workspace
    teacher: Teacher
    classifier: Classifier
    """The teacher in PyTorch."""
    shape: Shape
    data: LabelledData
    train: EncodedRows
    """Train rows, as long as the teacher reads them."""
    soft: FloatArray
    """The teacher's logits for the train rows, ``(rows, outputs)``."""
    ranking: HeldOutRows
    judging: HeldOutRows
    store: Store
    """What searches with the same teacher, rows and training options have made."""


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
    check_teacher(folder, data)
    if len(data.validation) < _FEWEST_ROWS:
        raise DatasetError(
            f"compress needs at least {_FEWEST_ROWS} labelled validation rows to judge models on",
            got=len(data.validation),
            remedy="set split: {validation: 0.2} in build_dataset; the more rows, the smaller a drop can be "
            "told from chance",
        )
    tokens = texts.tokens(folder, max_tokens=info.max_tokens)
    train, validation = (
        EncodedRows.of(tokens, rows, target=data.target) for rows in (data.train, data.validation)
    )
    held_out = texts.values(data.validation.places)
    workspace.log(f"the teacher answers {len(train.targets):,} train and {len(held_out):,} validation rows")
    soft, answers = (
        teacher_logits(teacher.scorer, rows.tokens, digest=teacher.digest, workspace=workspace)
        for rows in (train, validation)
    )
    order = np.random.default_rng(options.seed).permutation(len(held_out))
    count = max(1, round(len(held_out) * _RANKING_SHARE))

    def part(rows: npt.NDArray[np.int64]) -> HeldOutRows:
        some = EncodedRows(validation.tokens.take(rows), validation.targets[rows], data.target)
        return HeldOutRows([held_out[row] for row in rows], some, np.asarray(answers[rows]), info)

    return Search(
        options=options,
        workspace=workspace,
        teacher=teacher,
        classifier=classifier,
        shape=Shape.of(classifier.encoder, tokens=info.encoder_tokens or info.max_tokens),
        data=data,
        train=train,
        soft=soft,
        ranking=part(np.sort(order[:count])),
        judging=part(np.sort(order[count:])),
        store=Store(workspace.cache / "compress" / _key(teacher, options, train, validation, held_out)),
    )


def _key(
    teacher: Teacher,
    options: CompressionOptions,
    train: EncodedRows,
    validation: EncodedRows,
    held_out: list[str],
) -> str:
    """Return a digest of all that decides what a recipe becomes."""
    learned = options.model_dump(mode="json", include=_KEY_OPTIONS)
    others = [known for group in COMPRESSION_EXTENSIONS if (known := distributions_of(group))]
    found = hashlib.sha256(json.dumps([__version__, *others, teacher.digest, learned, held_out]).encode())
    for rows in (train, validation):
        for values in (rows.tokens.lengths, rows.tokens.flat(), rows.targets):
            found.update(np.ascontiguousarray(values).tobytes())
    return found.hexdigest()[:32]
