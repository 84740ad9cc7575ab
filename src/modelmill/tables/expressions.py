"""SQL expressions over a row's columns, as pipelines have them: an expression, and nothing else.

An engine takes a query wherever it takes an expression, and a query may read any file that the engine can,
by its path (``SELECT value FROM text.`/etc/passwd```). A Spark on Java calls any of Java's static methods
(``reflect``), and some hand out a deployment's secrets. So neither gets as far as the engine. What is within
quotes is text; engines differ in whether a backslash escapes a quote, so both readings have to be harmless.
"""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator

_QUERY = re.compile(
    # A query stands in parentheses, or runs a script (USING). Comments and $$ could hide where a text ends.
    r"\bselect\b|\busing\b|\([^\w'\"`]*(?:table|from|with|values)\b|\|>|--|/\*|\$",
    re.IGNORECASE,
)
_FUNCTION = re.compile(
    r"\b(?:(?:try_)?reflect|java_method|(?:try_)?secret|list_secrets|read_files|remote_query|http_request"
    r"|ai_\w+|vector_search)\W*\(",
    re.IGNORECASE,
)


def row_expression(text: str) -> str:
    """Return an expression, if it is nothing else.

    :param text: Spark SQL over a row's columns.
    :return: the same.
    :raises ValueError: if a query, a comment, or a call out of SQL may be in it.
    """
    for escapes in (True, False):
        plain, named = _without_texts(text, escapes=escapes)
        found = _QUERY.search(plain) or _FUNCTION.search(named)
        if found:
            raise ValueError(
                "an expression is of a row's columns alone, without queries, comments and calls of Java or "
                f"of servers; got {found[0].strip()!r}; a column of such a name stands in backquotes"
            )
    return text


RowExpression = Annotated[str, AfterValidator(row_expression)]
"""Spark SQL over a row's columns, as :func:`row_expression` allows it."""


def _without_texts(text: str, *, escapes: bool) -> tuple[str, str]:
    """Return an expression without what is in quotes, and the same with what is in backquotes.

    :param text: the expression.
    :param escapes: whether a backslash escapes what follows it in a text, unless it is a raw one (``r'…'``).
    :return: both.
    """
    plain, named, place = list[str](), list[str](), 0
    while place < len(text):
        mark = text[place]
        if mark not in "'\"`":
            plain.append(mark)
            named.append(mark)
            place += 1
            continue
        is_raw = re.search(r"\b[rR]$", text[max(place - 2, 0) : place]) is not None
        end = place + 1
        while end < len(text) and text[end] != mark:
            end += 2 if escapes and not is_raw and mark != "`" and text[end] == "\\" else 1
        plain.append("'")  # so that no two words become one
        named.append(text[place + 1 : end] if mark == "`" else "'")
        place = end + 1
    return "".join(plain), "".join(named)
