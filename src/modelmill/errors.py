"""Every error that modelmill raises on purpose.

::

    ModelmillError
    ├── InputError              a retry cannot help: somebody has to change something
    │   ├── PipelineError       the pipeline's text (lists all problems at once)
    │   ├── ExpressionError     a rule's SQL (lists all problems at once)
    │   ├── ConfigError         a step's configuration, an environment variable, a missing extra
    │   ├── TableError          a Delta table or the files that feed it
    │   ├── SignalError         a signal that cannot be computed
    │   ├── DatasetError        the rows: labels, texts, splits
    │   ├── ModelError          a model's files, format or fit with its dataset
    │   ├── StoreError          pipelines, rule sets: read-only, no such one, changed by somebody else
    │   └── GateError           a promotion that the gate or the registry refuses
    └── TransientError          a retry may help: a conflict, a server out of reach
        ├── ReplyError          a server's reply that is too long, has no end or cannot be unpacked
        └── WaitingError        a step waits for others, and goes on when they are done

The message is one line that names the rule, the value it got and the remedy, without secrets.
"""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, ClassVar

from modelmill.redaction import redacted

EXIT_REFUSED = 2
"""Exit status of a process that ends with an error that no retry can mend."""

EXIT_FAILED = 1
"""Exit status of a process that ends with any other error."""


class ModelmillError(Exception):
    """Base of all of them.

    :param rule: what has to hold.
    :param got: the value that breaks the rule, if there is one to show.
    :param remedy: what to do about it.
    :param choices: what the value has to be one of: the remedy then names the nearest.
    """

    retryable: ClassVar[bool] = True

    def __init__(
        self, rule: str, *, got: object = None, remedy: str = "", choices: Iterable[str] | None = None
    ) -> None:
        if choices is not None:
            remedy = did_you_mean(str(got), choices)
        self.rule = rule
        self.got = got
        self.remedy = remedy
        parts = [rule]
        if got is not None:
            parts.append(f"got {shorten(got)}")
        if remedy:
            parts.append(remedy)
        super().__init__(redacted("; ".join(" ".join(part.split()) for part in parts)))

    @property
    def exit_status(self) -> int:
        """Exit status that a process ends with when this error ends it."""
        return EXIT_FAILED if self.retryable else EXIT_REFUSED


class InputError(ModelmillError):
    """Something that was handed in is wrong: the same input fails again."""

    retryable = False


class ConfigError(InputError):
    """A step's configuration, an environment variable or a missing extra."""


class TableError(InputError):
    """A Delta table, or the files that feed one."""


class SignalError(InputError):
    """A signal of a rule set that cannot be computed: its column, pattern, function or model."""


class DatasetError(InputError):
    """The rows of a dataset: labels, texts, splits."""


class ModelError(InputError):
    """A model's files, its format, or its fit with a dataset."""


class StoreError(InputError):
    """A folder of pipelines or rule sets: read-only, without such a one, or changed by somebody else."""


class GateError(InputError):
    """A promotion that the gate or the registry refuses."""


class TransientError(ModelmillError):
    """A conflict or an unreachable server: the same call may go through later."""


class ReplyError(TransientError):
    """A server's reply of which no more is taken: it is too long, has no end in time, or cannot be unpacked.

    :param rule: what has to hold.
    :param reason: what came, in a few words and without the server's name.
    :param is_late: whether its time was over.
    """

    def __init__(self, rule: str, *, reason: str, is_late: bool = False) -> None:
        self.reason = reason
        self.is_late = is_late
        super().__init__(
            rule,
            got=reason,
            remedy="see what answers there: another program, a proxy's page, or a server that means harm",
        )

    @classmethod
    def long(cls, server: str, most_bytes: int) -> ReplyError:
        """Return the error of a reply that is too long.

        :param server: which one, as ``https://host``.
        :param most_bytes: the limit.
        :return: the error.
        """
        limit = f"{most_bytes:,} bytes"
        return cls(f"a reply of {server} must have at most {limit}", reason=f"more than {limit}")

    @classmethod
    def late(cls, server: str, seconds: float) -> ReplyError:
        """Return the error of a reply without an end.

        :param server: which one, as ``https://host``.
        :param seconds: the limit.
        :return: the error.
        """
        reason = f"no end within {seconds:g} s"
        return cls(f"a reply of {server} must end in time", reason=reason, is_late=True)

    @classmethod
    def unreadable(cls, server: str, reason: str) -> ReplyError:
        """Return the error of a reply that is packed in a way that nobody has asked for.

        :param server: which one, as ``https://host``.
        :param reason: what came.
        :return: the error.
        """
        return cls(f"a reply of {server} must be packed with gzip, deflate or not at all", reason=reason)


class WaitingError(TransientError):
    """A step has handed work to others and waits: run again, it goes on where it was.

    :param rule: what it waits for.
    :param got: how far that is.
    :param path: below the URL of the endpoint that does the work, where its ``status`` can be asked for.
    :param until: values of ``status`` with which the step can go on.
    :param seconds: between two looks.
    """

    def __init__(self, rule: str, *, got: object, path: str, until: Sequence[str], seconds: float) -> None:
        self.path = path
        self.until = tuple(until)
        self.seconds = seconds
        super().__init__(rule, got=got)

    def told(self) -> dict[str, Any]:
        """Return its arguments, as JSON, for another process to make it again."""
        return {
            "rule": self.rule,
            "got": str(self.got),
            "path": self.path,
            "until": list(self.until),
            "seconds": self.seconds,
        }


@dataclass(frozen=True, order=True)
class Problem:
    """One thing that is wrong in a text."""

    line: int
    """Line in the text, from 1; 0 where there is no text."""
    column: int
    """Column in the text, from 1; 0 where there is no text."""
    path: str
    """Dotted place in the document, such as ``steps.student.config.layers``."""
    message: str
    """Rule, value and remedy in one line."""
    excerpt: str = field(default="", compare=False)
    """The line of an expression and a caret below the place; empty for other problems."""

    def __str__(self) -> str:
        where = f"{self.line}:{self.column}: " if self.line else ""
        return f"{where}{self.path}: {self.message}" if self.path else f"{where}{self.message}"


class DocumentError(InputError):
    """A text breaks one rule or more; all of them are listed.

    :param problems: at least one, in the order of the text.
    :param source: the file that was read, for the message.
    """

    what: ClassVar[str] = "document"
    """Name of a text that has none."""

    def __init__(self, problems: Iterable[Problem], *, source: str = "") -> None:
        self.problems = tuple(sorted(problems))
        self.source = source = source or self.what
        count = len(self.problems)
        noun = "problem" if count == 1 else "problems"
        super().__init__(
            f"{source}: {count} {noun}: " + " | ".join(str(problem) for problem in self.problems)
        )

    @property
    def report(self) -> str:
        """Every problem on lines of its own, with a caret below the place in an expression."""
        return "\n".join(f"{problem}\n{problem.excerpt}".rstrip() for problem in self.problems)


class PipelineError(DocumentError):
    """A pipeline's text breaks one rule or more; all of them are listed."""

    what = "pipeline"


class RuleSetError(DocumentError):
    """A rule set's text breaks one rule or more; all of them are listed."""

    what = "rule set"


class ExpressionError(InputError):
    """SQL expressions break one rule or more; all of them are listed.

    :param problems: at least one; their path is the expression's name.
    :param texts: the expressions by name.
    :param what: what they are, for the message.
    """

    def __init__(self, problems: Iterable[Problem], *, texts: Mapping[str, str], what: str) -> None:
        self.problems = tuple(problems)
        self.texts = dict(texts)
        count = len(self.problems)
        noun = "problem" if count == 1 else "problems"
        super().__init__(f"{what}: {count} {noun}: " + " | ".join(str(problem) for problem in self.problems))

    @property
    def report(self) -> str:
        """Every problem on lines of its own, with the line of the text and a caret below the place."""
        return "\n".join(
            f"{problem}\n{excerpt(self.texts[problem.path], problem.line, problem.column)}"
            for problem in self.problems
        )


_EXCERPT_REACH = 50
"""Characters that an excerpt shows on either side of a place."""


def excerpt(text: str, line_number: int, column_number: int) -> str:
    """Return a line of a text, and a caret below a place in it; lines and columns count from 1."""
    line, column = text.split("\n")[line_number - 1].replace("\t", " "), column_number - 1
    start = max(column - _EXCERPT_REACH, 0)
    return f"    {line[start : column + _EXCERPT_REACH]}\n    {' ' * (column - start)}^"


_MOST_NAMED = 50
_MOST_COMPARED = 2000
"""Comparing with more takes longer than reading the list."""


_MOST_LETTERS_COMPARED = 20_000_000
"""Pairs of letters that are compared for one document: a second of work."""

_MOST_ORDERED = 16
"""Collections of choices that are kept in order for one document."""


@dataclass
class _Looks:
    """What the remedies for a document may still take, and the choices that were put in order before."""

    left: int = _MOST_LETTERS_COMPARED
    ordered: dict[int, tuple[Iterable[str], list[str]]] = field(default_factory=dict)

    def in_order(self, choices: Iterable[str]) -> list[str]:
        """Return choices in order. Some that were asked for are kept, so that their ids stay theirs."""
        if id(choices) not in self.ordered:
            if len(self.ordered) == _MOST_ORDERED:
                self.ordered.clear()
            self.ordered[id(choices)] = choices, sorted(choices)
        return self.ordered[id(choices)][1]

    def may_compare(self, word: str, known: Sequence[str]) -> bool:
        """Return whether a word may be compared with choices, and count it."""
        if len(known) > _MOST_COMPARED:
            return False
        self.left -= len(word) * sum(map(len, known))
        return self.left >= 0


_LOOKS: ContextVar[_Looks | None] = ContextVar("looks", default=None)


@contextlib.contextmanager
def bounded_remedies() -> Iterator[None]:
    """Bound the work for all remedies of one document: thousands of its names may be unknown, and alike.

    :yield: while the document is checked. It must not change meanwhile.
    """
    token = _LOOKS.set(_Looks())
    try:
        yield
    finally:
        _LOOKS.reset(token)


def did_you_mean(words: str | Sequence[str], choices: Iterable[str]) -> str:
    """Return a remedy that names the nearest choice of each word, or all choices.

    :param words: what was written.
    :param choices: what is allowed.
    :return: for instance ``did you mean 'epochs'? allowed: 'batch_size', 'epochs'``.
    """
    looks = _LOOKS.get() or _Looks()
    known = looks.in_order(choices)
    written = [words] if isinstance(words, str) else words[:_MOST_NAMED]
    found = (
        difflib.get_close_matches(word, known, n=1, cutoff=0.6) if looks.may_compare(word, known) else []
        for word in written
    )
    near = ", ".join(repr(name) for matches in found for name in matches)
    more = f" and {len(known) - _MOST_NAMED} more" if len(known) > _MOST_NAMED else ""
    allowed = "allowed: " + (", ".join(repr(choice) for choice in known[:_MOST_NAMED]) or "none") + more
    return f"did you mean {near}? {allowed}" if near else allowed


def shorten(value: object, *, limit: int = 200) -> str:
    """Return the value as text that fits a line.

    :param value: anything.
    :param limit: longest result, in characters.
    :return: the ``repr`` of a string, else ``str``, cut in the middle.
    """
    try:
        text = repr(value) if isinstance(value, str) else str(value)
    except ValueError:  # Python writes no whole number of more than 4,300 digits
        text = f"a {type(value).__name__} that is too long to show"
    if len(text) <= limit:
        return text
    half = (limit - 5) // 2
    return f"{text[:half]} ... {text[-half:]}"
