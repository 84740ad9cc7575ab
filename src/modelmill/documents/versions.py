"""Versions of documents: what was saved by whom, and how two texts differ."""

from __future__ import annotations

import difflib
import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic

from pydantic import AwareDatetime

from modelmill.documents.folder import FileT
from modelmill.errors import StoreError
from modelmill.options import Record


class ConflictError(StoreError):
    """Somebody else has changed the document.

    :param noun: what it is, such as ``pipeline``.
    :param name: its name.
    :param current: its present state; None if it is gone.
    :param author: who has changed it.
    :param text: the text that was to be saved.
    """

    def __init__(self, noun: str, name: str, current: Stored[Any] | None, *, author: str, text: str) -> None:
        self.current = current
        self.author = author
        self.text = text
        super().__init__(
            f"a {noun} is saved over the text that was read",
            got=name,
            remedy=f"{author} has changed it meanwhile: look at the difference, and save again",
        )


class NotFoundError(StoreError):
    """There is no such document or version."""


class Version(Record):
    """A text that was saved."""

    number: int
    """From 1, without gaps."""
    author: str
    time: AwareDatetime
    message: str = ""
    etag: str
    """SHA-256 of the text."""
    parent: str | None
    """:attr:`etag` of the text that it replaced; None if there was none."""
    digest: str | None
    """Digest of what the text says; None if it was not valid."""
    deleted: bool = False
    """Whether the document was deleted: the text is the last one."""
    text: str
    seal: str = ""
    """SHA-256 of all the rest; empty in versions that older releases have written."""

    def sealed(self) -> Version:
        """Return the version with its seal."""
        return self.model_copy(update={"seal": self._content_digest()})

    @property
    def is_as_saved(self) -> bool:
        """Whether what it says is what was saved."""
        return self.etag == text_digest(self.text) and self.seal in ("", self._content_digest())

    def _content_digest(self) -> str:
        return text_digest(self.model_dump_json(exclude={"seal"}))


@dataclass(frozen=True)
class Stored(Generic[FileT]):
    """A document as it is now."""

    name: str
    file: FileT

    @property
    def etag(self) -> str:
        """SHA-256 of the text: changes with every byte."""
        return text_digest(self.file.text)


def text_digest(text: str) -> str:
    """Return the SHA-256 of a text."""
    return hashlib.sha256(text.encode()).hexdigest()


MOST_PAIRS = 500_000
"""Pairs of equal lines in two texts up to which the shortest difference is looked for: half a second."""


def difference(before: str, after: str, *, before_name: str = "before", after_name: str = "after") -> str:
    """Return what has changed, as a unified diff.

    Of texts in which many lines are equal to many others, all from the first line that differs to the last
    one is shown as changed: to look for less could take minutes.

    :param before: one text.
    :param after: the other.
    :param before_name: what the first is called.
    :param after_name: what the second is called.
    :return: empty if they are the same.
    """
    old, new = before.splitlines(), after.splitlines()
    if _pairs(old, new) > MOST_PAIRS:
        return "\n".join(_coarse(old, new, before_name, after_name))
    lines = difflib.unified_diff(old, new, before_name, after_name, lineterm="", n=3)
    return "\n".join(lines)


def _pairs(old: Sequence[str], new: Sequence[str]) -> int:
    """Return how many pairs of equal lines difflib looks at; of long texts it leaves out frequent ones."""
    frequent = len(new) // 100 + 1 if len(new) >= 200 else len(new)
    counts, others = Counter(old), Counter(new)
    return sum(counts[line] * count for line, count in others.items() if count <= frequent)


def _coarse(old: Sequence[str], new: Sequence[str], before_name: str, after_name: str) -> Iterator[str]:
    """Yield a diff with one block."""
    least = min(len(old), len(new))
    first = next((n for n in range(least) if old[n] != new[n]), least)
    same = next((n for n in range(least - first) if old[-1 - n] != new[-1 - n]), least - first)
    gone, came = old[first : len(old) - same], new[first : len(new) - same]
    if gone or came:
        yield from (f"--- {before_name}", f"+++ {after_name}")
        starts = [first + 1 if lines else first for lines in (gone, came)]
        yield f"@@ -{starts[0]},{len(gone)} +{starts[1]},{len(came)} @@"
        yield from (f"-{line}" for line in gone)
        yield from (f"+{line}" for line in came)
