"""Signals that are regular expressions on a text column."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from modelmill.signals.kinds import SignalKind
from modelmill.signals.pattern_groups import PatternSignal, pattern_groups, pattern_operands, pattern_result
from modelmill.signals.patterns import Regex


class RegexSignal(PatternSignal):
    """A regular expression on a text column (RE2: linear time, no look-around, no back references)."""

    kind: Literal["regex"] = "regex"
    pattern: str = Field(min_length=1, description="Regular expression; (?i) ignores case.")
    output: Literal["found", "count"] = Field(
        "found", description="Whether it is found anywhere, or how often without overlaps."
    )

    @property
    def is_counted(self) -> bool:
        """Whether the signal is a number of hits."""
        return self.output == "count"

    def sought(self) -> Regex:
        """Return what is looked for."""
        return Regex(self.pattern)


regex = SignalKind(
    title="Regular expression",
    config=RegexSignal,
    operands=pattern_operands,
    result=pattern_result,
    groups=pattern_groups,
)
