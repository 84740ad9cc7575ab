"""What an algorithm needs of its surroundings: folders, log, progress.

A step passes its own context. In a notebook, :meth:`Workspace.temporary` makes one.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Progress(Protocol):
    """Called by long work; prints at most every few seconds."""

    def __call__(self, done: float, total: float, **figures: float) -> None:
        """Say how far the work is.

        :param done: units done.
        :param total: units in all.
        :param **figures: live figures to show beside it, such as ``loss=0.12``.
        """


class Tracker(Protocol):
    """Takes what is measured on the way: an MLflow run, or nobody."""

    def log_metrics(self, metrics: Mapping[str, float], *, step: int = 0) -> None:
        """Take metrics.

        :param metrics: values by name.
        :param step: position on the time axis, such as the optimizer step.
        """

    def log_figure(self, figure: Figure, path: str) -> None:
        """Take a plot.

        :param figure: the plot.
        :param path: where it belongs, such as ``plots/learning_curve.png``.
        """


class NoTracker:
    """Takes everything and keeps nothing."""

    def log_metrics(self, metrics: Mapping[str, float], *, step: int = 0) -> None:
        """See :meth:`Tracker.log_metrics`."""

    def log_figure(self, figure: Figure, path: str) -> None:
        """See :meth:`Tracker.log_figure`."""


def no_progress(done: float, total: float, **figures: float) -> None:
    """Say nothing: a :class:`Progress` for work that nobody watches."""


@dataclass(frozen=True)
class Workspace:
    """Where an algorithm keeps files, and where it reports."""

    workdir: Path
    """Folder of this piece of work: survives a dead attempt (checkpoints), is kept for the next one."""
    cache: Path
    """Folder shared with other work, for things that can be made again, named by content."""
    progress: Progress = no_progress
    log: Callable[[str], None] = print
    tracker: Tracker = field(default_factory=NoTracker)

    @classmethod
    @contextlib.contextmanager
    def temporary(cls, *, log: Callable[[str], None] = print) -> Iterator[Workspace]:
        """Make a workspace that is gone at the end.

        :param log: gets each line of the log.
        :yield: the workspace.
        """
        with tempfile.TemporaryDirectory(prefix="modelmill-") as folder:
            parts = [Path(folder, name) for name in ("work", "cache")]
            for part in parts:
                part.mkdir()
            yield cls(workdir=parts[0], cache=parts[1], log=log)
