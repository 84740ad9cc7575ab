"""What a gate judges: a challenger and those it is compared with, on the same rows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from modelmill.artifacts import DatasetRef, ModelRef
from modelmill.evaluation.rows import Logits, cached_answers, cached_logits
from modelmill.registry.comparisons import Statistics
from modelmill.registry.models import fetch_bundle
from modelmill.serving.bundle import BundleInfo

if TYPE_CHECKING:
    from modelmill.pipeline.component import StepContext


@dataclass(frozen=True)
class Contender:
    """A model, and what it answers to the test rows; its files are verified when they are asked for."""

    name: str
    """``challenger``, ``champion`` or ``parent``."""
    model: ModelRef
    dataset: DatasetRef
    label: str
    context: StepContext

    @cached_property
    def folder(self) -> Path:
        """Its bundle."""
        return fetch_bundle(self.model, self.context.cache)

    @cached_property
    def info(self) -> BundleInfo:
        """What the bundle says of itself."""
        return BundleInfo.load(self.folder)

    @cached_property
    def answers(self) -> list[str]:
        """Class of each test row."""
        return cached_answers(self.model, self.dataset, "test", self.context, label=self.label)

    @cached_property
    def logits(self) -> Logits:
        """``(rows, classes)``, classes as in ``info``."""
        return cached_logits(self.model, self.dataset, "test", self.context, label=self.label)


@dataclass(frozen=True)
class Case:
    """All that a check can look at."""

    dataset: DatasetRef
    label: str
    texts: list[str]
    """Labelled test rows, in the order of their keys."""
    truth: list[str]
    challenger: Contender
    champion: Contender | None
    """None where there is none yet."""
    parent: Contender | None
    """The model that the challenger was made from; None where it was made from none."""
    how: Statistics
    context: StepContext

    @property
    def reference(self) -> Contender | None:
        """The champion; the parent where there is no champion yet."""
        return self.champion or self.parent
