"""What an algorithm needs of its surroundings: folders, log, progress.

A step passes its own context. In a notebook, :meth:`Workspace.temporary` makes one.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from matplotlib.figure import Figure


Units = Literal[
    "training steps",
    "epochs",
    "rows encoded",
    "rows answered",
    "teacher's answers",
    "language model's answers",
    "measurements of speed",
    "models judged",
    "servers ready",
    "videos",
]
"""What long work counts. A person reads it beside the count, and in Chinese where the canvas speaks that."""


class Progress(Protocol):
    """Called by long work; prints at most every few seconds."""

    def __call__(self, done: float, total: float, *, what: Units, **figures: float) -> None:
        """Say how far the work is.

        :param done: units done.
        :param total: units in all.
        :param what: the units.
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


@dataclass(frozen=True)
class PrefixedTracker:
    """Hands everything on, with a prefix before the names."""

    tracker: Tracker
    prefix: str

    def log_metrics(self, metrics: Mapping[str, float], *, step: int = 0) -> None:
        """See :meth:`Tracker.log_metrics`."""
        self.tracker.log_metrics(
            {f"{self.prefix}{name}": value for name, value in metrics.items()}, step=step
        )

    def log_figure(self, figure: Figure, path: str) -> None:
        """See :meth:`Tracker.log_figure`."""
        self.tracker.log_figure(figure, f"{self.prefix}{path}")


def no_progress(done: float, total: float, *, what: Units, **figures: float) -> None:
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

    def part(self, folder: str, name: str) -> Workspace:
        """Return a workspace for one of several parts of this work, which says nothing in the log.

        :param folder: folder of all these parts, below the work directory.
        :param name: of the part: its own folder, and what stands before the names of its metrics.
        :return: the workspace.
        """
        workdir = self.workdir / folder / name
        workdir.mkdir(parents=True, exist_ok=True)
        prefix = "".join(char if char.isalnum() or char in " ._-" else "_" for char in name) + "/"
        tracker = PrefixedTracker(self.tracker, prefix)
        return Workspace(workdir, self.cache, self.progress, log=lambda _line: None, tracker=tracker)

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


_REPORTED_TO: ContextVar[Workspace | None] = ContextVar("reported_to", default=None)


@contextlib.contextmanager
def reporting_to(workspace: Workspace) -> Iterator[None]:
    """Let Spark jobs that run meanwhile in this thread report to a workspace.

    A job's request is data, so that it can run as an application of its own: it carries no callbacks.

    :param workspace: of the step that runs the job.
    """
    token = _REPORTED_TO.set(workspace)
    try:
        yield
    finally:
        _REPORTED_TO.reset(token)


def report(text: str) -> None:
    """Say what a job does next, in the log of the step that runs it; in an application of its own, nowhere.

    :param text: a line.
    """
    workspace = _REPORTED_TO.get()
    if workspace is not None:
        workspace.log(text)


def report_progress(done: float, total: float, *, what: Units) -> None:
    """Say how far a job is, as :class:`Progress` does.

    :param done: units done.
    :param total: units in all.
    :param what: the units.
    """
    workspace = _REPORTED_TO.get()
    if workspace is not None:
        workspace.progress(done, total, what=what)
