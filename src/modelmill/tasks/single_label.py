"""One class a row. Targets: the number of each row's class, ``(rows,)`` int64."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from modelmill.tasks.base import Answers, Measures, Targets, TargetsBySplit, Task
from modelmill.tasks.baselines import LINEAR_SVM, MAJORITY
from modelmill.tasks.calibration import Calibration, FloatArray
from modelmill.tasks.class_metrics import ACCURACY, MACRO_F1
from modelmill.tasks.classes import check_classes
from modelmill.tokens.token_ids import Places

if TYPE_CHECKING:
    import pyarrow as pa
    import torch


class SingleLabel(Task):
    """One class a row: softmax, cross-entropy."""

    kind = "class"
    exclusive = True
    unknown = -1
    linear_name = LINEAR_SVM
    metrics = (ACCURACY, MACRO_F1)

    def outputs(self, classes: Sequence[str]) -> int:
        """See :meth:`Task.outputs`."""
        return len(classes)

    def describe(self, classes: Sequence[str]) -> str:
        """See :meth:`Task.describe`."""
        return f"{len(classes)} classes"

    def read_targets(self, column: pa.Array, name: str, places: Mapping[str, Places]) -> TargetsBySplit:
        """See :meth:`Task.read_targets`."""
        encoded = column.dictionary_encode()
        names = [str(value) for value in encoded.dictionary.to_pylist()]
        # Of each row the number of its label among all names; -1 without a label.
        codes = encoded.indices.fill_null(-1).to_numpy()
        seen = {split: {names[code] for code in np.unique(codes[rows])} for split, rows in places.items()}
        classes = tuple(sorted(seen["train"]))
        check_classes(name, classes, seen["validation"])
        numbers = {found: number for number, found in enumerate(classes)}
        targets = np.array([numbers.get(found, -1) for found in names], dtype=np.int64)
        return classes, {split: targets[codes[rows]] for split, rows in places.items()}

    def unlabelled(self, rows: int, classes: Sequence[str]) -> Targets:
        """See :meth:`Task.unlabelled`."""
        return np.full(rows, self.unknown, dtype=np.int64)

    def loss(
        self,
        logits: torch.Tensor,
        targets: torch.Tensor,
        *,
        weights: torch.Tensor | None = None,
        reduction: Literal["mean", "sum"] = "mean",
    ) -> torch.Tensor:
        """See :meth:`Task.loss`."""
        from torch.nn import functional

        total = functional.cross_entropy(logits, targets, weight=weights, reduction="sum")
        return total / len(targets) if reduction == "mean" else total

    def row_losses(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """See :meth:`Task.row_losses`."""
        from torch.nn import functional

        return functional.cross_entropy(logits, targets, reduction="none", ignore_index=-1)

    def known(self, targets: torch.Tensor) -> torch.Tensor:
        """See :meth:`Task.known`."""
        return targets >= 0

    def distances(self, logits: torch.Tensor, teacher: torch.Tensor, temperature: float) -> torch.Tensor:
        """See :meth:`Task.distances`."""
        from torch.nn import functional

        divergence = functional.kl_div(
            functional.log_softmax(logits / temperature, dim=1),
            functional.log_softmax(teacher / temperature, dim=1),
            log_target=True,
            reduction="none",
        ).sum(1)
        return temperature**2 * divergence

    def balanced_weights(self, targets: Targets, outputs: int) -> FloatArray:
        """Return rows / (classes * rows of the class), as scikit-learn's ``class_weight="balanced"``."""
        counts = np.bincount(targets.astype(np.int64), minlength=outputs)
        return np.asarray(len(targets) / (outputs * counts), dtype=np.float32)

    def indicators(self, targets: Targets, outputs: int) -> npt.NDArray[np.float64]:
        """See :meth:`Task.indicators`."""
        return np.eye(outputs)[targets]

    def answers(
        self, logits: FloatArray, *, classes: Sequence[str], calibration: Calibration | None
    ) -> tuple[list[Any], list[float]]:
        """See :meth:`Task.answers`."""
        found = self.probabilities(logits, calibration)
        # The class of the highest logit: a calibration may make two probabilities equal.
        best = logits.argmax(axis=1)
        return [classes[index] for index in best], found[np.arange(len(best)), best].tolist()

    def agreement(self, student: FloatArray, teacher: FloatArray) -> float:
        """See :meth:`Task.agreement`."""
        return float((student.argmax(axis=1) == teacher.argmax(axis=1)).mean())

    def quality(self, logits: FloatArray, targets: Targets) -> Measures:
        """See :meth:`Task.quality`."""
        answers = logits.argmax(axis=1)
        scores = []
        for number in np.union1d(answers, targets):
            hit = int(((answers == number) & (targets == number)).sum())
            scores.append(2 * hit / int((answers == number).sum() + (targets == number).sum()))
        return {"accuracy": float((answers == targets).mean()), "macro_f1": float(np.mean(scores))}

    def values(self, column: pa.Array) -> list[Any]:
        """See :meth:`Task.values`."""
        return [str(value) for value in column.to_pylist()]

    def classes_in(self, values: Sequence[Any]) -> set[str]:
        """See :meth:`Task.classes_in`."""
        return set(values)

    def truth(self, values: Sequence[Any], classes: Sequence[str]) -> Answers:
        """See :meth:`Task.truth`."""
        return np.array(values, dtype=object)

    def decide(
        self,
        logits: FloatArray,
        *,
        known: Sequence[str],
        classes: Sequence[str],
        calibration: Calibration | None,
        scored: npt.NDArray[np.bool_] | None = None,
    ) -> Answers:
        """Return the class of the highest logit, see :meth:`Task.decide`."""
        found = np.array([*known, ""], dtype=object)[logits.argmax(axis=1)]
        return found if scored is None else np.where(scored, found, "")

    def same_answers(self, answers: Answers, others: Answers) -> float:
        """See :meth:`Task.same_answers`."""
        return float((answers == others).mean())

    def used_classes(self, truth: Answers, classes: Sequence[str]) -> set[str]:
        """See :meth:`Task.used_classes`."""
        return set(truth)

    def plain_answer(self, truth: Answers) -> tuple[str, Answers]:
        """Return the most frequent class; the first of equally frequent ones, by name."""
        counts = Counter(truth)
        majority = min(counts, key=lambda name: (-counts[name], name))
        return MAJORITY, np.array([majority], dtype=object)

    def fit_linear(self, features: Any, truth: Answers, new_features: Any, strength: float) -> Answers:
        """See :meth:`Task.fit_linear`."""
        from sklearn.svm import LinearSVC

        if len(set(truth)) == 1:  # a part of the rows may have one class
            return np.repeat(truth[:1], new_features.shape[0])
        model = LinearSVC(C=strength, random_state=0).fit(features, list(truth))
        return np.array([str(name) for name in model.predict(new_features)], dtype=object)
