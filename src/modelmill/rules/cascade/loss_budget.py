"""The loss that cheap models cause on some rows, and the budget that it is tested against."""

from __future__ import annotations

from dataclasses import dataclass

from modelmill.errors import DatasetError
from modelmill.rules.confidence_bounds import drop_bound, upper_bound


@dataclass(frozen=True)
class Loss:
    """Numbers of rows that change when cheap models are asked first."""

    rows: int
    changed: int = 0
    labelled: int = 0
    losses: int = 0
    """Right before, wrong after."""
    gains: int = 0
    """Wrong before, right after."""
    wronged: int = 0
    """A rule decides them wrongly after, and none did before."""
    mended: int = 0
    """A rule decided them wrongly before, and none does after."""
    read: int = 0
    """The models had to read them before."""
    saved: int = 0
    """The models need not read them any more."""

    def estimate(self, *, accuracy: bool) -> float:
        """Return the loss as a share of these rows."""
        if accuracy:
            return max(self.losses - self.gains, self.wronged - self.mended) / max(self.labelled, 1)
        return self.changed / max(self.rows, 1)


@dataclass(frozen=True)
class LossBudget:
    """The largest accepted loss on new rows, and the confidence that it is kept."""

    most: float = 0.005
    confidence: float = 0.95
    accuracy: bool = False
    """Whether the loss is the share of right decisions lost (or of new wrong ones by a rule); else it is the
    share of changed decisions."""

    def bound(self, loss: Loss) -> float:
        """Return the upper bound of the loss on new rows."""
        doubt = 1 - self.confidence
        if self.accuracy:  # both must hold, so neither takes a part of the doubt
            return max(
                drop_bound(loss.losses, loss.gains, loss.labelled, doubt=doubt),
                drop_bound(loss.wronged, loss.mended, loss.labelled, doubt=doubt),
            )
        return upper_bound(loss.changed, loss.rows, doubt=doubt)

    def check(self, rows: int) -> None:
        """Refuse so few rows that nothing could be shown even if no decision changed."""
        half = self._fewest()
        if rows // 2 < half:
            what = "labelled rows" if self.accuracy else "rows"
            raise DatasetError(
                f"a budget of {self.most:g} with confidence {self.confidence:g} takes {2 * half:,} {what} at "
                "least: half of them to learn, half to test",
                got=f"{rows:,}",
                remedy="hand over more rows, or allow a larger budget",
            )

    def _fewest(self) -> int:
        """Return the fewest rows whose bound is within the budget if nothing is lost."""
        few, many = 0, 1
        while self.bound(Loss(rows=many, labelled=many)) > self.most:
            few, many = many, 2 * many
        while many - few > 1:
            middle = (few + many) // 2
            if self.bound(Loss(rows=middle, labelled=middle)) > self.most:
                few = middle
            else:
                many = middle
        return many
