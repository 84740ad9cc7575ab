"""Progress of a step as lines of its log."""

from __future__ import annotations

import time

from modelmill.workspace import Units


class ProgressPrinter:
    """Prints a line every few seconds: a task log is read in a browser, which cannot redraw a line.

    :param step: the step's id.
    :param every: seconds between two lines.
    """

    def __init__(self, step: str, *, every: float = 5.0) -> None:
        self.step = step
        self.every = every
        self._began = self._said = time.monotonic()
        self._first = self._done = self._total = 0.0
        self._what: Units | None = None

    def __call__(self, done: float, total: float, *, what: Units, **figures: float) -> None:
        """Print the share that is done, figures and the time left, if the last line is old enough."""
        now = time.monotonic()
        if (total, what) != (self._total, self._what) or done < self._done:  # the next phase of the work
            self._began, self._total, self._what = now, total, what
            # Of what was done before this attempt, nobody knows how long it took.
            self._first, self._said = done, now
        self._done = done
        if done < total and (now - self._said < self.every or done == self._first):
            return
        self._said = now
        share = done / total if total else 1.0
        left = (now - self._began) * (total - done) / (done - self._first) if done < total else 0.0
        shown = "".join(f", {name} {value:.4g}" for name, value in figures.items())
        print(
            f"{self.step}: {share:4.0%} ({done:,.0f} of {total:,.0f} {what}){shown}, {_clock(left)} left",
            flush=True,
        )


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    return f"{minutes}:{seconds:02d}"
