"""The tokenizer of a model: ``tokenizer.json``, read by the tokenizers library."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelmill.errors import ModelError
from modelmill.system.digests import file_digest
from modelmill.tokens.token_ids import Tokens

if TYPE_CHECKING:
    from tokenizers import Tokenizer


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
