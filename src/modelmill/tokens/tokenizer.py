"""The tokenizer of a model: ``tokenizer.json``, read by the tokenizers library."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from modelmill.errors import ModelError
from modelmill.system.digests import file_digest
from modelmill.tokens.token_ids import Tokens

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_COUNTED_AT_A_TIME = 1 << 20
"""Tokens that are held in memory when they are counted."""


def tokenizer_digest(folder: Path) -> str:
    """Return the SHA-256 of a bundle's ``tokenizer.json``.

    :param folder: the bundle, or a base model's folder.
    :return: 64 hexadecimal digits.
    """
    return file_digest(folder / "tokenizer.json")


def load_tokenizer(folder: Path, *, max_tokens: int) -> Tokenizer:
    """Load ``tokenizer.json``, without padding and with the model's own limit whatever the file says.

    :param folder: the bundle, or a base model's folder.
    :param max_tokens: longer texts are cut, special tokens included.
    :return: the tokenizer; others may have the same one, so it must not be changed.
    :raises ModelError: if the file cannot be read.
    """
    path = folder / "tokenizer.json"
    try:
        return _tokenizer(path.read_bytes(), max_tokens)
    except Exception as error:  # the library raises bare Exception
        raise ModelError(
            f"tokenizer.json must be one that the tokenizers library reads ({error})",
            got=str(path),
            remedy="save it with PreTrainedTokenizerFast.save_pretrained",
        ) from error


@functools.lru_cache(maxsize=4)
def _tokenizer(content: bytes, max_tokens: int) -> Tokenizer:
    """Read a tokenizer once, however many bundles have it: all threads wait while it is read."""
    from tokenizers import Tokenizer

    tokenizer: Any = Tokenizer.from_buffer(content)
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_length=max_tokens)
    result: Tokenizer = tokenizer
    return result


def encode(tokenizer: Tokenizer, texts: Sequence[str]) -> Tokens:
    """Tokenise texts.

    :param tokenizer: see :func:`load_tokenizer`.
    :param texts: any number of texts.
    :return: ids of each text, at least one, packed.
    """
    # A tokenizer without special tokens makes nothing of an empty text; the model needs a token all the same.
    found = tokenizer.encode_batch_fast(list(texts), add_special_tokens=True)
    return Tokens.of(encoding.ids or [0] for encoding in found)


def unknown_share(folder: Path, tokens: Tokens) -> float:
    """Return which share of the tokens of texts stands for what the tokenizer does not know.

    :param folder: the bundle, or a base model's folder, whose tokenizer made the tokens.
    :param tokens: ids; special tokens, which the tokenizer adds by itself, do not count.
    :return: from 0 to 1; 0 for tokenizers that know every text, byte by byte.
    """
    content = json.loads((folder / "tokenizer.json").read_bytes())
    model = content["model"]
    named = model.get("unk_token")
    unknown = model["vocab"].get(named) if isinstance(named, str) else model.get("unk_id")
    if unknown is None:
        return 0.0
    special = {token["id"] for token in content.get("added_tokens", ()) if token["special"]} - {unknown}
    counts = np.zeros(1 << 16, np.int64)
    for start in range(0, len(tokens.values), _COUNTED_AT_A_TIME):
        found = np.bincount(tokens.values[start : start + _COUNTED_AT_A_TIME], minlength=len(counts))
        counts = np.pad(counts, (0, len(found) - len(counts))) + found
    counted = int(counts.sum() - counts[[one for one in special if one < len(counts)]].sum())
    return float(counts[unknown] / counted) if counted and unknown < len(counts) else 0.0
