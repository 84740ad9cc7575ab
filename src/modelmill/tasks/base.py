"""What every kind of label defines: its targets, its loss, its answers and how good they are."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from modelmill.datasets.options import LabelKind
from modelmill.tasks.baselines import TFIDF, linear_baseline
from modelmill.tasks.calibration import Calibration, FloatArray, plain_probabilities
from modelmill.tasks.metrics import Metric
from modelmill.tasks.pixel_features import pixel_baseline
from modelmill.tokens.token_ids import Places

if TYPE_CHECKING:
    import pyarrow as pa
    import torch

Targets = npt.NDArray[Any]
"""What the labels of some rows say, as a training reads them: see the tasks."""
Measures = Mapping[str, float]
"""Values by name of the metric. The first one is what epochs and candidates are chosen by: more is better."""
Answers = npt.NDArray[Any]
"""Labels, or a model's answers in the same form: the class of each row, ``(rows,)``; 1 for each class of a
row's set, ``(rows, classes)``; or its number, ``(rows, 1)``."""
AnswerType = Literal["string", "array<string>", "double"]
"""A class, a set of classes, or a number, as Spark names it."""
TargetsBySplit = tuple[tuple[str, ...], dict[str, Targets]]
"""The classes of a label column (empty for numbers), and the targets of each split."""


_LINEAR: Mapping[type, tuple[str, Callable[..., tuple[str, Any] | None]]] = {
    str: (TFIDF, linear_baseline),
    bytes: ("pixels", pixel_baseline),
}
"""What is counted in contents by their type, and what fits a linear model of it."""


class Task(ABC):
    """A kind of label. Tasks have no state: :func:`modelmill.tasks.kinds.task_of` returns the only instance.

    A model has one logit for each class, or a single one for a number.
    """

    kind: ClassVar[LabelKind]
    """How datasets and bundles name it."""
    has_classes: ClassVar[bool] = True
    """Whether logits stand for classes and become probabilities; False: the logit is the number itself."""
    exclusive: ClassVar[bool] = False
    """Whether a row has exactly one class."""
    answer_type: ClassVar[AnswerType] = "string"
    """Type of an answer in tables, in MLflow and in JSON."""
    unknown: ClassVar[float] = np.nan
    """What stands for a missing label among the targets."""
    linear_name: ClassVar[str]
    """Name of the linear model that is a baseline."""
    metrics: ClassVar[tuple[Metric, ...]]
    """What models are judged by. Models are compared by the first one unless another one is asked for."""

    # Labels

    @abstractmethod
    def outputs(self, classes: Sequence[str]) -> int:
        """Return the number of logits.

        :param classes: the classes; empty for numbers.
        :return: at least 1.
        """

    @abstractmethod
    def describe(self, classes: Sequence[str]) -> str:
        """Return what a label says, in words.

        :param classes: the classes; empty for numbers.
        :return: for instance ``sets of 3 classes``.
        """

    @abstractmethod
    def read_targets(self, column: pa.Array, name: str, places: Mapping[str, Places]) -> TargetsBySplit:
        """Read the labels of some rows.

        :param column: the label column.
        :param name: of the column, for errors.
        :param places: rows of each split that have a label, see :meth:`labelled`; ``train`` and
            ``validation``.
        :return: the classes of the train split, sorted, and the targets of each split.
        :raises DatasetError: if there is only one class or number to learn, or if the validation split has a
            class that the train split lacks.
        """

    def labelled(self, column: pa.Array) -> npt.NDArray[np.bool_]:
        """Return which rows of a label column have a label, ``(rows,)``."""
        found: npt.NDArray[np.bool_] = column.is_valid().to_numpy(zero_copy_only=False)
        return found

    def unlabelled(self, rows: int, classes: Sequence[str]) -> Targets:  # noqa: ARG002 (only sets need them)
        """Return targets of rows without a label.

        :param rows: how many.
        :param classes: the classes; empty for numbers.
        :return: :attr:`unknown` for each row.
        """
        return np.full(rows, self.unknown, dtype=np.float32)

    def units(self, targets: Targets) -> tuple[float, float]:  # noqa: ARG002 (classes have no units)
        """Return mean and standard deviation of numbers, the units in which they are learned.

        :param targets: of the train rows.
        :return: 0 and 1 for classes.
        """
        return 0.0, 1.0

    # Learning

    @abstractmethod
    def loss(
        self,
        logits: torch.Tensor,
        targets: torch.Tensor,
        *,
        weights: torch.Tensor | None = None,
        reduction: Literal["mean", "sum"] = "mean",
    ) -> torch.Tensor:
        """Return the training loss of labelled rows.

        :param logits: ``(rows, outputs)``.
        :param targets: of the same rows.
        :param weights: of the classes, ``(classes,)``; numbers have none.
        :param reduction: whether it is a mean over the rows or a sum. Weights do not change what the sum is
            divided by, so the losses of parts of a batch add up to that of the whole.
        :return: a scalar.
        """

    @abstractmethod
    def row_losses(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the loss of each row; of a row without a label any finite number.

        :param logits: ``(rows, outputs)``.
        :param targets: of the same rows; :attr:`unknown` without a label.
        :return: ``(rows,)``.
        """

    @abstractmethod
    def known(self, targets: torch.Tensor) -> torch.Tensor:
        """Return which rows have a label.

        :param targets: :attr:`unknown` without a label.
        :return: ``(rows,)``.
        """

    @abstractmethod
    def distances(self, logits: torch.Tensor, teacher: torch.Tensor, temperature: float) -> torch.Tensor:
        """Return how far each row's answer is from the teacher's.

        For classes it is the loss of G. Hinton, O. Vinyals and J. Dean, *Distilling the Knowledge in a Neural
        Network* (2015, arXiv 1503.02531): the Kullback-Leibler divergence of the softened distributions,
        times the temperature squared, so that its gradients keep their size.

        :param logits: the student's, ``(rows, outputs)``.
        :param teacher: the teacher's, ``(rows, outputs)``.
        :param temperature: softens both; numbers have none.
        :return: ``(rows,)``; 0 where both answer the same.
        """

    @abstractmethod
    def balanced_weights(self, targets: Targets, outputs: int) -> FloatArray:
        """Return weights with which rare classes count as much as common ones.

        :param targets: of the train rows.
        :param outputs: number of logits.
        :return: ``(outputs,)``; 1 for numbers.
        """

    @abstractmethod
    def indicators(self, targets: Targets, outputs: int) -> npt.NDArray[np.float64]:
        """Return the labels as the probabilities that a perfect model gives.

        :param targets: of any rows.
        :param outputs: number of logits.
        :return: ``(rows, outputs)``, 0 or 1; numbers as they are.
        """

    # Answers

    def probabilities(self, logits: FloatArray, calibration: Calibration | None) -> FloatArray:
        """Return a probability for each class, or the numbers.

        :param logits: ``(rows, outputs)``.
        :param calibration: what makes probabilities of them; None: softmax, or the sigmoid for sets of
            classes.
        :return: ``(rows, outputs)``; rows of an exclusive task sum to 1.
        """
        wide = logits.astype(np.float64)
        if calibration is None:
            return plain_probabilities(wide, exclusive=self.exclusive).astype(np.float32)
        return calibration.apply(wide, exclusive=self.exclusive).astype(np.float32)

    @abstractmethod
    def answers(
        self, logits: FloatArray, *, classes: Sequence[str], calibration: Calibration | None
    ) -> tuple[list[Any], list[float]]:
        """Return answers as people and tables get them.

        :param logits: ``(rows, outputs)``.
        :param classes: class of each logit.
        :param calibration: see :meth:`probabilities`.
        :return: for each row an answer and a score. One class: the class and its probability. Sets of
            classes: the list of those more probable than not, and the probability of the likeliest. A number:
            the number, twice.
        """

    @abstractmethod
    def agreement(self, student: FloatArray, teacher: FloatArray) -> float:
        """Return how alike two models answer.

        :param student: logits, ``(rows, outputs)``; at least one row.
        :param teacher: logits for the same rows.
        :return: from 0 to 1: the share of rows with the same answer. Sets of classes are the same if all of
            them are. Numbers are never quite the same: it is the share of the teacher's variance that the
            student explains.
        """

    @abstractmethod
    def quality(self, logits: FloatArray, targets: Targets) -> Measures:
        """Return how good a model is on labelled rows.

        :param logits: ``(rows, outputs)``; at least one row.
        :param targets: of the same rows.
        :return: ``accuracy`` and ``macro_f1`` for one class, ``micro_f1`` and ``macro_f1`` for sets of
            classes, ``r2`` and ``rmse`` for numbers.
        """

    # Evaluation

    def metric(self, name: str) -> Metric:
        """Return the metric that models are compared by: the one of that name, else the first."""
        return next((metric for metric in self.metrics if metric.name == name), self.metrics[0])

    @abstractmethod
    def values(self, column: pa.Array) -> list[Any]:
        """Return labels as Python values.

        :param column: the label column, rows without a label left out (see :meth:`labelled`).
        :return: of each row its class, its list of classes, or its number.
        """

    @abstractmethod
    def classes_in(self, values: Sequence[Any]) -> set[str]:
        """Return the classes that occur among labels.

        :param values: see :meth:`values`.
        :return: empty for numbers.
        """

    @abstractmethod
    def truth(self, values: Sequence[Any], classes: Sequence[str]) -> Answers:
        """Return labels in the form in which they are compared with answers.

        :param values: see :meth:`values`.
        :param classes: all classes that labels or models have; others are left out of sets.
        :return: see :data:`Answers`.
        """

    @abstractmethod
    def decide(
        self,
        logits: FloatArray,
        *,
        known: Sequence[str],
        classes: Sequence[str],
        calibration: Calibration | None,
        scored: npt.NDArray[np.bool_] | None = None,
    ) -> Answers:
        """Return a model's answers in the form in which they are compared with labels.

        :param logits: ``(rows, outputs)``.
        :param known: class of each logit.
        :param classes: all classes that labels or models have.
        :param calibration: see :meth:`probabilities`.
        :param scored: rows whose logits are numbers, ``(rows,)``; the others count as rows without an answer:
            an empty class, an empty set, or zero. None: all rows.
        :return: see :data:`Answers`.
        """

    @abstractmethod
    def same_answers(self, answers: Answers, others: Answers) -> float:
        """Return how alike two models answer, as :meth:`agreement` does.

        :param answers: of one model; at least one row.
        :param others: of the model that it is compared with.
        :return: from 0 to 1.
        """

    @abstractmethod
    def used_classes(self, truth: Answers, classes: Sequence[str]) -> set[str]:
        """Return the classes that occur among labels.

        :param truth: the labels.
        :param classes: all classes that labels or models have.
        :return: empty for numbers.
        """

    def baselines(
        self, contents: Sequence[Any], truth: Answers, new_contents: Sequence[Any], *, validation: int = 0
    ) -> dict[str, Answers]:
        """Fit the baselines, and answer other rows.

        :param contents: texts, or the files of images, to fit on; at least one.
        :param truth: their labels.
        :param new_contents: those to answer.
        :param validation: so many of the contents, the last ones, choose between words and characters, or
            what is counted in images; with fewer than 20 every fifth of all does.
        :return: answers by name of the baseline: the most frequent class (the mean), and a linear model of
            TF-IDF features or pixel statistics, unless the texts or the labels do not let it be fitted.
        """
        name, plain = self.plain_answer(truth)
        found = {name: np.repeat(plain, len(new_contents), axis=0)}
        if len(new_contents) and (truth != truth[:1]).any():
            source, fitted = _LINEAR[type(contents[0])]
            linear = fitted(
                contents,
                truth,
                new_contents,
                validation=validation,
                fit=self.fit_linear,
                score=self.metrics[0].of,
            )
            if linear is not None:
                features, answers = linear
                found[f"{source} + {self.linear_name} ({features})"] = answers
        return found

    @abstractmethod
    def plain_answer(self, truth: Answers) -> tuple[str, Answers]:
        """Return the answer that is best without reading a text.

        :param truth: labels to fit on.
        :return: its name, and itself for one row.
        """

    @abstractmethod
    def fit_linear(self, features: Any, truth: Answers, new_features: Any, strength: float) -> Answers:
        """Fit a linear model, and answer other rows.

        :param features: sparse for texts, dense for images, ``(rows, features)``.
        :param truth: their labels.
        :param new_features: of the rows to answer.
        :param strength: the inverse of the regularisation, 1 by default in scikit-learn.
        :return: answers.
        """
