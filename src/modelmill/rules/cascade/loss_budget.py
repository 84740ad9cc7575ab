"""What cheap models may change: a budget of decisions or of accuracy, and what is held against it."""

from __future__ import annotations

from dataclasses import dataclass

from modelmill.errors import DatasetError
from modelmill.rules.confidence_bounds import drop_bound, upper_bound


@dataclass(frozen=True)
class Loss:
    """What tiers change on some rows, in rows."""

    rows: int
    changed: int = 0
    labelled: int = 0
    losses: int = 0
    """Right before and wrong after."""
    gains: int = 0
    """Wrong before and right after."""
    wronged: int = 0
    """That a rule decides wrongly after, and none did before."""
    mended: int = 0
    """That a rule decided wrongly before, and none does after."""
    read: int = 0
    """That the models had to read."""
    saved: int = 0
    """That they need not read any more."""

    def estimate(self, *, accuracy: bool) -> float:
        """Return the loss as a share of the rows at hand."""
        if accuracy:
            return max(self.losses - self.gains, self.wronged - self.mended) / max(self.labelled, 1)
        return self.changed / max(self.rows, 1)


@dataclass(frozen=True)
class LossBudget:
    """What may be lost, and how sure one must be."""

    most: float = 0.005
    confidence: float = 0.95
    accuracy: bool = False
    """Whether it is about right decisions, and wrong ones by a rule; else about the same decisions."""

    def bound(self, loss: Loss) -> float:
        """Return the upper bound of the loss on new rows."""
        doubt = 1 - self.confidence
        if self.accuracy:  # both must hold: neither takes a part of the doubt
            return max(
                drop_bound(loss.losses, loss.gains, loss.labelled, doubt=doubt),
                drop_bound(loss.wronged, loss.mended, loss.labelled, doubt=doubt),
            )
        return upper_bound(loss.changed, loss.rows, doubt=doubt)

    def check(self, rows: int) -> None:
        """Refuse rows that can show nothing, even if none of them changes."""
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
