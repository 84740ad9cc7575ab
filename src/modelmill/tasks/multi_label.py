"""A set of classes a row, which may be empty. Targets: 1 for each of its classes, ``(rows, classes)``
float32.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from modelmill.datasets.examples import Places
from modelmill.tasks.base import Measures, Targets, TargetsBySplit, Task
from modelmill.tasks.calibration import Calibration, FloatArray, plain_probabilities
from modelmill.tasks.classes import check_classes

if TYPE_CHECKING:
    import pyarrow as pa
    import torch

LIKELY = 0.5
"""A class is answered if it is more probable than this."""
_MAX_WEIGHT = 100


class MultiLabel(Task):
    """A set of classes a row: as many yes-no questions, sigmoid, binary cross-entropy."""

    kind = "classes"

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

    def balanced_weights(self, targets: Targets, outputs: int) -> FloatArray:  # noqa: ARG002
        """Return rows without the class per row with it, from 1 to 100."""
        counts = targets.sum(0).clip(min=1)
        return np.asarray(((len(targets) - counts) / counts).clip(1, _MAX_WEIGHT), dtype=np.float32)

    def indicators(self, targets: Targets, outputs: int) -> npt.NDArray[np.float64]:  # noqa: ARG002
        """See :meth:`Task.indicators`."""
        return targets.astype(np.float64)

    def probabilities(self, logits: FloatArray, calibration: Calibration | None) -> FloatArray:
        """See :meth:`Task.probabilities`; each class by itself."""
        wide = logits.astype(np.float64)
        if calibration is None:
            return plain_probabilities(wide, exclusive=False).astype(np.float32)
        return calibration.apply(wide, exclusive=False).astype(np.float32)

    def answers(
        self, logits: FloatArray, *, classes: Sequence[str], calibration: Calibration | None
    ) -> tuple[list[str], list[float]]:
        """See :meth:`Task.answers`."""
        found = self.probabilities(logits, calibration)
        sets = [[name for name, p in zip(classes, row, strict=True) if p > LIKELY] for row in found]
        return [json.dumps(names) for names in sets], found.max(axis=1, initial=0.0).tolist()

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
