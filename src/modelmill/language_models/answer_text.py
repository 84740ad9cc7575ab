"""The JSON object in what a language model wrote.

A server that keeps to the schema sends the object alone. One that does not, or not always, lets the model put
it into a fence of Markdown, a sentence around it, or its thoughts before it. The object is the answer all the
same, as long as there is only one: with two, nobody knows which is meant.
"""

from __future__ import annotations

import json
import re
from typing import Any

from modelmill.language_models.dialects import read_json

_THOUGHTS = re.compile(r"\A\s*<think(?:ing)?>.*?</think(?:ing)?>", re.DOTALL)
_MOST_CHARACTERS = 20_000
"""Of a text that is no object as a whole, from its end: an answer stands behind what was thought."""
_MOST_BRACES = 200
"""Braces that are tried: a text with more is no answer."""


def object_in(content: Any) -> dict[str, Any] | None:
    """Return the one JSON object of an answer.

    :param content: an answer's ``content``: a text, or a list of parts with texts.
    :return: the object; None if there is none, or more than one.
    """
    text = _joined(content) if isinstance(content, list) else content
    if not isinstance(text, str):
        return None
    try:
        whole = read_json(text)
    except ValueError:
        return _only(_THOUGHTS.sub("", text)[-_MOST_CHARACTERS:])
    return whole if isinstance(whole, dict) else None


def _joined(parts: list[Any]) -> str:
    """Join the texts of parts; thoughts and pictures are parts of other types."""
    texts = [part.get("text") for part in parts if isinstance(part, dict) and part.get("type") == "text"]
    return "".join(text for text in texts if isinstance(text, str))


def _only(text: str) -> dict[str, Any] | None:
    """Return the object that stands somewhere in a text."""
    decoder, found, at = json.JSONDecoder(), list[dict[str, Any]](), 0
    for _ in range(_MOST_BRACES):
        at = text.find("{", at)
        if at < 0:
            return found[0] if len(found) == 1 else None
        try:
            one, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            at += 1
            continue
        found.append(one)
    return None
