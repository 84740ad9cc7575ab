"""What a pilot has to show before the rest is paid for: that the endpoint answers in the form asked for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from modelmill.errors import ConfigError
from modelmill.language_models.answer_text import object_in

_FEWEST = 10
"""Answers from which on a form that is always wrong is no chance."""


def check_pilot(entries: Iterable[Mapping[str, Any] | None]) -> None:
    """Stop where no answer has the form that was asked for.

    An endpoint that does not know the schema, or a model that spends its tokens on thoughts, would answer all
    rows like that, and each answer is billed. An answer in the right form that is no label is another matter:
    the row may have asked for it.

    :param entries: of the journal; None for requests without an answer.
    :raises ConfigError: with one of the answers.
    """
    found = [entry for entry in entries if entry is not None and entry["status"] != "refused"]
    if len(found) < _FEWEST or not all(_is_formless(entry) for entry in found):
        return
    texts = sorted({str(entry["text"]) for entry in found}, key=len)
    cut = sum(entry["output_tokens"] is not None for entry in found)
    used = sorted(int(entry["output_tokens"] or 0) for entry in found)
    raise ConfigError(
        f"a pilot's answers must be labels; none of {len(found):,} is, so the other rows are not asked",
        got=repr(texts[-1][:200]) + (f", with {used[-1]:,} tokens of output at most" if cut else ""),
        remedy="raise max_tokens if answers are cut off or empty; turn hidden reasoning off, such as by "
        "body: {reasoning_effort: none}; or see whether the endpoint takes response_format",
    )


def _is_formless(entry: Mapping[str, Any]) -> bool:
    return entry["status"] == "invalid" and object_in(entry["text"]) is None
