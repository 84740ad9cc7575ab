"""How far a training is, and what it went through."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from modelmill.tasks.base import Measures
from modelmill.training.acceleration import Precision

Epoch = tuple[int, Measures]
"""Optimizer steps made by the end of an epoch, and the metrics on the validation rows after it."""


@dataclass(frozen=True)
class TrainingHistory:
    """What a finished training leaves besides the weights."""

    steps: int
    """Optimizer steps that were made."""
    curve: list[tuple[int, float]]
    """Mean training loss by optimizer step."""
    epochs: list[Epoch]
    best: Measures | None
    """Metrics of the epoch whose weights were kept; None without validation rows."""


@dataclass
class TrainingState:
    """How far a training is: part of every checkpoint."""

    step: int = 0
    curve: list[tuple[int, float]] = field(default_factory=list)
    """Mean training loss by step."""
    epochs: list[Epoch] = field(default_factory=list)
    best: int | None = None
    """Position in ``epochs`` of the best one; None before the first one ends, or without validation rows."""
    loss_sum: float = 0.0
    loss_count: int = 0
    rows_at_once: int = 0
    """Rows of a batch that are computed together: halved when memory runs out."""
    ended: bool = False
    """Whether the training has ended, early or not."""
    precision: Precision = "fp32"
    """Number format of the products: the first attempt chose it."""

    @classmethod
    def restored(cls, saved: Mapping[str, Any]) -> TrainingState:
        """Return the state that a checkpoint holds.

        :param saved: its fields, as JSON gives them back.
        :return: the state.
        """
        state = dict(saved)
        state["curve"] = [(int(step), float(loss)) for step, loss in state["curve"]]
        state["epochs"] = [(int(step), dict(found)) for step, found in state["epochs"]]
        return cls(**state)

    def add_loss(self, value: float) -> None:
        """Count a step."""
        self.step += 1
        self.loss_sum += value
        self.loss_count += 1

    def add_curve_point(self) -> None:
        """Add the mean loss since the last point to the curve."""
        self.curve.append((self.step, self.loss_sum / self.loss_count))
        self.loss_sum, self.loss_count = 0.0, 0

    def add_epoch(self, found: Measures) -> bool:
        """Add the metrics of an epoch, and return whether it is the best one so far.

        :param found: metrics on the validation rows; epochs are compared by the first one.
        :return: True for the first of all, and for an equal one: it has seen more.
        """
        self.epochs.append((self.step, dict(found)))
        name, value = next(iter(found.items()))
        better = self.best is None or value >= self.epochs[self.best][1][name]
        if better:
            self.best = len(self.epochs) - 1
        return better

    def epochs_since_better(self) -> int:
        """Return how many epochs have ended since one was better than all before it."""
        if self.best is None:
            return 0
        values = [next(iter(found.values())) for _, found in self.epochs]
        # The last of equals is kept, but only the first was better than those before it.
        return len(values) - 1 - values.index(values[self.best])

    def history(self) -> TrainingHistory:
        """Return the history of the training so far."""
        kept = None if self.best is None else self.epochs[self.best][1]
        return TrainingHistory(steps=self.step, curve=self.curve, epochs=self.epochs, best=kept)
