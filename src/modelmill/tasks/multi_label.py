"""A set of classes a row, which may be empty. Targets: 1 for each of its classes, ``(rows, classes)``
float32.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from modelmill.tasks.base import Answers, Measures, Targets, TargetsBySplit, Task
from modelmill.tasks.baselines import LINEAR_SVM, MAJORITY
from modelmill.tasks.calibration import Calibration, FloatArray
from modelmill.tasks.classes import check_classes
from modelmill.tasks.metrics import Floats, mean_of_rows, summed
from modelmill.tokens.token_ids import Places

if TYPE_CHECKING:
    import pyarrow as pa
    import torch

LIKELY = 0.5
"""A class is answered if it is more probable than this."""
_MAX_WEIGHT = 100


def _hits(truth: Floats, answers: Floats) -> Floats:
    """Return twice the right answers of each class, and its labels and answers, ``(rows, 2 * classes)``."""
    return np.hstack([2 * answers * truth, answers + truth])


def _micro_f1(sums: Floats) -> Floats:
    half = sums.shape[1] // 2
    found: Floats = sums[:, :half].sum(1) / np.maximum(sums[:, half:].sum(1), 1)
    return found


def _macro_f1(sums: Floats) -> Floats:
    half = sums.shape[1] // 2
    named = sums[:, half:]
    found: Floats = (sums[:, :half] / np.maximum(named, 1)).sum(1) / np.maximum((named > 0).sum(1), 1)
    return found


def _same(truth: Floats, answers: Floats) -> Floats:
    same = (answers == truth).all(axis=1)
    return np.column_stack([same, np.ones(len(truth))]).astype(np.float64)


class MultiLabel(Task):
    """A set of classes a row: as many yes-no questions, sigmoid, binary cross-entropy."""

    kind = "classes"
    answer_type = "array<string>"
    linear_name = LINEAR_SVM
    metrics = (
        summed("micro_f1", _hits, _micro_f1),
        summed("macro_f1", _hits, _macro_f1),
        summed("exact", _same, mean_of_rows),
    )
    """``exact``: the share of rows whose whole set is right."""

    def outputs(self, classes: Sequence[str]) -> int:
        """See :meth:`Task.outputs`."""
        return len(classes)

    def describe(self, classes: Sequence[str]) -> str:
        """See :meth:`Task.describe`."""
        return f"sets of {len(classes)} classes"

    def read_targets(self, column: pa.Array, name: str, places: Mapping[str, Places]) -> TargetsBySplit:
        """See :meth:`Task.read_targets`."""
        import pyarrow.compute as pc

        parents = pc.list_parent_indices(column).to_numpy()
        encoded = pc.list_flatten(column).dictionary_encode()
        names = np.array([str(value) for value in encoded.dictionary.to_pylist()], dtype=object)
        codes = encoded.indices.fill_null(-1).to_numpy()
        found = {}
        seen: dict[str, set[str]] = {}
        for split, rows in places.items():
            inside = np.isin(parents, rows) & (codes >= 0)
            found[split] = np.searchsorted(rows, parents[inside]), names[codes[inside]]
            seen[split] = set(found[split][1])
        classes = tuple(sorted(seen["train"]))
        check_classes(name, classes, seen["validation"])
        numbers = {value: number for number, value in enumerate(classes)}
        targets: dict[str, Targets] = {}
        for split, rows in places.items():
            which, values = found[split]
            targets[split] = np.zeros((len(rows), len(classes)), dtype=np.float32)
            targets[split][which, [numbers[value] for value in values]] = 1
        return classes, targets

    def unlabelled(self, rows: int, classes: Sequence[str]) -> Targets:
        """See :meth:`Task.unlabelled`."""
        return np.full((rows, len(classes)), self.unknown, dtype=np.float32)

    def loss(
        self,
        logits: torch.Tensor,
        targets: torch.Tensor,
        *,
        weights: torch.Tensor | None = None,
        reduction: Literal["mean", "sum"] = "mean",
    ) -> torch.Tensor:
        """See :meth:`Task.loss`; the mean is one over rows and classes, weights are those of present ones."""
        from torch.nn import functional

        return functional.binary_cross_entropy_with_logits(
            logits, targets, pos_weight=weights, reduction=reduction
        )

    def row_losses(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """See :meth:`Task.row_losses`; the mean over the classes."""
        import torch
        from torch.nn import functional

        each = functional.binary_cross_entropy_with_logits(
            logits, torch.nan_to_num(targets), reduction="none"
        )
        return each.mean(1)

    def known(self, targets: torch.Tensor) -> torch.Tensor:
        """See :meth:`Task.known`."""
        return ~targets.isnan().any(dim=1)

    def distances(self, logits: torch.Tensor, teacher: torch.Tensor, temperature: float) -> torch.Tensor:
        """See :meth:`Task.distances`; the mean over the classes, each with a divergence of its own."""
        import torch
        from torch.nn import functional

        wanted = torch.sigmoid(teacher / temperature)  # (rows, classes)
        # Less the teacher's own entropy, which has no gradient: a student that answers alike has no loss.
        own = functional.binary_cross_entropy_with_logits(teacher / temperature, wanted, reduction="none")
        found = functional.binary_cross_entropy_with_logits(logits / temperature, wanted, reduction="none")
        return temperature**2 * (found - own).mean(1)

    def balanced_weights(self, targets: Targets, outputs: int) -> FloatArray:
        """Return rows without the class per row with it, from 1 to 100."""
        counts = targets.sum(0).clip(min=1)
        return np.asarray(((len(targets) - counts) / counts).clip(1, _MAX_WEIGHT), dtype=np.float32)

    def indicators(self, targets: Targets, outputs: int) -> npt.NDArray[np.float64]:
        """See :meth:`Task.indicators`."""
        return targets.astype(np.float64)

    def answers(
        self, logits: FloatArray, *, classes: Sequence[str], calibration: Calibration | None
    ) -> tuple[list[Any], list[float]]:
        """See :meth:`Task.answers`."""
        found = self.probabilities(logits, calibration)
        sets = [[name for name, p in zip(classes, row, strict=True) if p > LIKELY] for row in found]
        return sets, found.max(axis=1, initial=0.0).tolist()

    def agreement(self, student: FloatArray, teacher: FloatArray) -> float:
        """See :meth:`Task.agreement`."""
        return float(((student > 0) == (teacher > 0)).all(axis=1).mean())

    def quality(self, logits: FloatArray, targets: Targets) -> Measures:
        """See :meth:`Task.quality`."""
        answers, truth = logits > 0, targets > 0
        hits = (answers & truth).sum(0)
        named = answers.sum(0) + truth.sum(0)
        each = 2 * hits / np.maximum(named, 1)
        return {
            "micro_f1": float(2 * hits.sum() / max(named.sum(), 1)),
            "macro_f1": float(each[named > 0].mean()) if (named > 0).any() else 0.0,
        }

    def values(self, column: pa.Array) -> list[Any]:
        """See :meth:`Task.values`."""
        return [[str(name) for name in value if name is not None] for value in column.to_pylist()]

    def classes_in(self, values: Sequence[Any]) -> set[str]:
        """See :meth:`Task.classes_in`."""
        return {name for value in values for name in value}

    def truth(self, values: Sequence[Any], classes: Sequence[str]) -> Answers:
        """See :meth:`Task.truth`."""
        numbers = {name: number for number, name in enumerate(classes)}
        table = np.zeros((len(values), len(classes)))
        for row, names in enumerate(values):
            table[row, [numbers[name] for name in names if name in numbers]] = 1
        return table

    def decide(
        self,
        logits: FloatArray,
        *,
        known: Sequence[str],
        classes: Sequence[str],
        calibration: Calibration | None,
        scored: npt.NDArray[np.bool_] | None = None,
    ) -> Answers:
        """See :meth:`Task.decide`."""
        plain = logits if scored is None else np.where(scored[:, None], logits, 0)
        named = self.probabilities(plain, calibration) > LIKELY
        places = {name: number for number, name in enumerate(classes)}
        table = np.zeros((len(named), len(classes)))
        table[:, [places[name] for name in known]] = named if scored is None else named & scored[:, None]
        return table

    def same_answers(self, answers: Answers, others: Answers) -> float:
        """See :meth:`Task.same_answers`."""
        return float((answers == others).all(axis=1).mean())

    def used_classes(self, truth: Answers, classes: Sequence[str]) -> set[str]:
        """See :meth:`Task.used_classes`."""
        return {name for name, column in zip(classes, truth.T, strict=True) if column.any()}

    def plain_answer(self, truth: Answers) -> tuple[str, Answers]:
        """Return the classes that most rows have."""
        return MAJORITY, (truth.mean(0, keepdims=True) > LIKELY).astype(np.float64)

    def fit_linear(self, features: Any, truth: Answers, new_features: Any, strength: float) -> Answers:
        """See :meth:`Task.fit_linear`; each class by itself."""
        from sklearn.svm import LinearSVC

        answers = np.repeat(self.plain_answer(truth)[1], new_features.shape[0], axis=0)
        for number, column in enumerate(truth.T):
            if 0 < column.sum() < len(column):
                model = LinearSVC(C=strength, random_state=0).fit(features, column)
                answers[:, number] = model.predict(new_features)
        return answers
