"""What a gate judges: a challenger and those it is compared with, on the same rows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from modelmill.artifacts import DatasetRef, ModelRef
from modelmill.errors import ModelError, TransientError
from modelmill.evaluation.rows import Logits, cached_logits
from modelmill.models.bundle import BundleInfo
from modelmill.registry.bundles import fetch_bundle
from modelmill.registry.comparisons import Statistics

if TYPE_CHECKING:
    from modelmill.component import StepContext


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
        try:
            return fetch_bundle(self.model, self.context.cache)
        except (ModelError, TransientError) as error:
            if self.name != "champion":
                raise
            name = self.model.uri.split("/")[1]
            raise type(error)(
                f"the champion of {name} must be there to compare with ({error.rule})",
                got=self.model.uri,
                remedy=f"restore its files, or go back with modelmill registry rollback {name}",
            ) from error

    @cached_property
    def info(self) -> BundleInfo:
        """What the bundle says of itself."""
        return BundleInfo.load(self.folder)

    @cached_property
    def answers(self) -> list[str]:
        """Class of each test row; empty where its scores are no numbers, which is never right."""
        best = np.where(self.scored, self.logits.argmax(axis=1), -1)
        return [self.info.classes[place] if place >= 0 else "" for place in best]

    @cached_property
    def scored(self) -> npt.NDArray[np.bool_]:
        """Whether the scores of a test row are numbers, neither NaN nor infinite, ``(rows,)``."""
        found: npt.NDArray[np.bool_] = np.logical_and.reduce(np.isfinite(self.logits), axis=1)
        return found

    @cached_property
    def logits(self) -> Logits:
        """``(rows, classes)``, classes as in ``info``."""
        return cached_logits(self.model, self.dataset, "test", self.context, label=self.label)


@dataclass(frozen=True)
class Case:
    """All that a check can look at."""

    name: str
    """The registered model that the challenger is proposed for."""
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
