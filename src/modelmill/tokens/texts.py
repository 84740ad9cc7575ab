"""Texts that models read, each with its own tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from modelmill.tokens.token_ids import Places, Tokens
from modelmill.tokens.tokenizer import encode, load_tokenizer


class Texts(Protocol):
    """Texts in a fixed order, which any tokenizer can read."""

    @property
    def column(self) -> str:
        """Name of the column that holds them: models remember it."""

    def tokens(self, folder: Path, *, max_tokens: int) -> Tokens:
        """Tokenise all texts.

        :param folder: folder with ``tokenizer.json``: a base model or a bundle.
        :param max_tokens: longer texts are cut, special tokens included.
        :return: the ids of each text.
        """

    def values(self, places: Places) -> list[str]:
        """Return some of the texts.

        :param places: of those that are wanted, ``(rows,)``.
        :return: the texts, in the order of the places.
        """


@dataclass(frozen=True)
class TextList:
    """Texts in memory."""

    texts: Sequence[str]
    column: str = "text"

    def tokens(self, folder: Path, *, max_tokens: int) -> Tokens:
        """See :meth:`Texts.tokens`."""
        return encode(load_tokenizer(folder, max_tokens=max_tokens), self.texts)

    def values(self, places: Places) -> list[str]:
        """See :meth:`Texts.values`."""
        return [self.texts[place] for place in places]

    def __str__(self) -> str:
        return f"{len(self.texts):,} texts"
