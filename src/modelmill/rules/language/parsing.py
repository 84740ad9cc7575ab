"""Parses the text of an expression with sqlglot, within limits that make hostile text harmless."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, ClassVar

from sqlglot import exp
from sqlglot.dialects.dialect import Dialect
from sqlglot.errors import ErrorLevel, ParseError, TokenError
from sqlglot.parser import Parser as BaseParser
from sqlglot.tokenizer_core import Token, TokenType

from modelmill.errors import shorten

MAX_CHARACTERS = 1_000_000
"""Room for ten thousand phrases; parsing so much takes seconds."""
MAX_NESTING = 32
"""Levels of brackets, CASE and NOT. sqlglot's parser recurses about 20 times for each level."""


@dataclass(frozen=True)
class Mistake:
    """A mistake in an expression."""

    offset: int
    """Index of the character where it is, from 0."""
    message: str
    unknown_name: bool = False
    """Whether it is a name that does not exist."""

    def position(self, text: str) -> tuple[int, int]:
        """Return its line and its column in the expression's text, both from 1."""
        before = text[: self.offset]
        return before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1


class ExpressionDialect(Dialect):
    """SQL without sqlglot's built-in functions: calls stay as written and are looked up in our own table."""

    class Parser(BaseParser):
        """The standard parser without built-in functions."""

        FUNCTIONS: ClassVar[dict[str, Any]] = {}
        FUNCTION_PARSERS: ClassVar[dict[str, Any]] = {}
        NO_PAREN_FUNCTIONS: ClassVar[dict[Any, Any]] = {}


def parse(text: str) -> exp.Expr | Mistake:
    """Return the tree of an expression, or its first mistake."""
    if not text.strip():
        return Mistake(0, "an expression must not be empty; write a condition such as price > 10")
    if len(text) > MAX_CHARACTERS:
        return Mistake(
            0, f"an expression has at most {MAX_CHARACTERS:,} characters; got {len(text):,}; split it"
        )
    if half := re.search("[\ud800-\udfff]", text):
        return Mistake(
            half.start(), f"a text is made of whole characters; got {half[0]!r}, half a surrogate pair"
        )
    dialect = ExpressionDialect()
    try:
        tokens = dialect.tokenize(text)
        mistake = _too_deep(tokens) or _chained(tokens)
        if mistake is not None:
            return mistake
        parser = dialect.parser(error_level=ErrorLevel.IMMEDIATE)
        trees = [tree for tree in parser.parse_into(exp.Condition, tokens, text) if tree is not None]
    except TokenError as error:
        return Mistake(_unclosed(text), f"a text or a quoted name must be closed; {_plain(error)}")
    except ParseError as error:
        return _syntax_mistake(error, text)
    except RecursionError:
        return Mistake(0, f"an expression is nested at most {MAX_NESTING} deep; split it")
    if len(trees) != 1:
        return Mistake(0, f"one expression is wanted; got {len(trees)}; join conditions with AND or OR")
    return trees[0]


def _too_deep(tokens: list[Token]) -> Mistake | None:
    depth = nots = 0
    for token in tokens:
        nots = nots + 1 if token.token_type in (TokenType.NOT, TokenType.DASH) else 0
        if token.token_type in _OPENING:
            depth += 1
        elif token.token_type in _CLOSING:
            depth -= 1
        if depth + nots > MAX_NESTING:
            return Mistake(token.start, f"an expression is nested at most {MAX_NESTING} deep; split it")
    return None


def _chained(tokens: list[Token]) -> Mistake | None:
    """Refuse ``a = b IS NULL`` and the like: databases differ in which comparison they take first."""
    counts, between = [0], [False]
    for token in tokens:
        kind = token.token_type
        if kind in _OPENING:
            counts.append(0)
            between.append(False)
        elif kind in _CLOSING and len(counts) > 1:
            counts.pop()
            between.pop()
        elif kind is TokenType.AND and between[-1]:
            between[-1] = False  # the one that belongs to BETWEEN
        elif kind in _SEPARATING:
            counts[-1], between[-1] = 0, False
        elif kind in _COMPARING:
            counts[-1] += 1
            between[-1] = kind is TokenType.BETWEEN
            if counts[-1] > 1:
                return Mistake(
                    token.start, f"comparisons are not chained; got {token.text!r}; put brackets around one"
                )
    return None


_SEPARATING = frozenset(
    {
        *(TokenType.AND, TokenType.OR, TokenType.COMMA, TokenType.SEMICOLON),
        *(TokenType.WHEN, TokenType.THEN, TokenType.ELSE),
    }
)
_COMPARING = frozenset(
    {
        *(TokenType.EQ, TokenType.NEQ, TokenType.NULLSAFE_EQ, TokenType.IS, TokenType.IN, TokenType.BETWEEN),
        *(TokenType.LT, TokenType.LTE, TokenType.GT, TokenType.GTE),
        *(TokenType.LIKE, TokenType.ILIKE, TokenType.RLIKE),
    }
)
_OPENING = frozenset({TokenType.L_PAREN, TokenType.L_BRACKET, TokenType.L_BRACE, TokenType.CASE})
_CLOSING = frozenset({TokenType.R_PAREN, TokenType.R_BRACKET, TokenType.R_BRACE, TokenType.END})


def _unclosed(text: str) -> int:
    """Return the offset of the quote that is never closed."""
    start, quote = 0, ""
    for offset, character in enumerate(text):
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            start, quote = offset, character
    return start if quote else 0


def _syntax_mistake(error: ParseError, text: str) -> Mistake:
    if not error.errors:
        return Mistake(0, f"the expression must be SQL; {_plain(error)}")
    found = error.errors[0]
    lines = text.split("\n")
    line, last = found.get("line") or 1, found.get("col") or 1
    # sqlglot names the last character of the word that it did not expect.
    highlight = str(found.get("highlight") or "")
    offset = sum(len(one) + 1 for one in lines[: line - 1]) + max(last - len(highlight), 0)
    reason = str(found.get("description") or "syntax error")
    if "Required keyword" in reason:
        reason = "an operand is missing"
    return Mistake(
        min(offset, max(len(text) - 1, 0)), f"the expression must be SQL ({reason}); got {shorten(highlight)}"
    )


def _plain(error: Exception) -> str:
    return shorten(" ".join(str(error).split()), limit=100)
