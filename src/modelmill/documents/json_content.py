"""What documents say, as JSON has it: for browsers, and for other processes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import date
from typing import Any

from modelmill.documents.parsing import parse_document
from modelmill.errors import PipelineError, Problem


def document_content(text: str) -> Any:
    """Return the content of a document.

    :param text: YAML or JSON.
    :return: what it says, as JSON has it; None if it is not YAML.
    """
    try:
        return as_json(parse_document(text, source="document", error=PipelineError).content)
    except PipelineError:
        return None


def as_json(content: Any) -> Any:
    """Return what YAML gave as JSON has it: a date becomes text, a number that is not finite becomes null.

    :param content: of a document that was parsed within bounds: its aliases are written out here.
    :return: the same in dictionaries with text keys, lists, texts, numbers, truth values and None.
    :raises PipelineError: if it is nested too deep.
    """
    try:
        return _as_json(content)
    except RecursionError as error:
        raise PipelineError([Problem(0, 0, "", "a document is not that deep; flatten it")]) from error


def _as_json(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _as_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_as_json(item) for item in value]
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, str | int | float | None) else str(value)
