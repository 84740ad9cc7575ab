"""Signals that are lists of phrases on a text column."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from modelmill.signals.kinds import SignalKind
from modelmill.signals.pattern_groups import PatternSignal, pattern_groups, pattern_operands, pattern_result
from modelmill.signals.phrase_search import Phrases

MAX_PHRASES = 100_000


class PhrasesSignal(PatternSignal):
    """Phrases on a text column, any of them."""

    kind: Literal["phrases"] = "phrases"
    phrases: tuple[Annotated[str, Field(min_length=1)], ...] = Field(min_length=1, max_length=MAX_PHRASES)
    ignore_case: bool = True
    whole_words: bool = Field(True, description="A phrase neither begins nor ends inside a word.")
    output: Literal["found", "count"] = Field(
        "found", description="Whether one is found, or how many places begin one."
    )

    @property
    def is_counted(self) -> bool:
        """Whether the signal is a number of hits."""
        return self.output == "count"

    def sought(self) -> Phrases:
        """Return what is looked for."""
        return Phrases(self.phrases, ignore_case=self.ignore_case, whole_words=self.whole_words)


phrases = SignalKind(
    title="Phrases",
    config=PhrasesSignal,
    operands=pattern_operands,
    result=pattern_result,
    groups=pattern_groups,
)
