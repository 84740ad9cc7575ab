"""What turns texts into token ids: ``tokenizers``, or ``nanotoken`` as long as it gives the same ids.

``nanotoken`` is many times faster, and young, so it is never trusted: at first both encode texts that break
tokenizers, a part of this tokenizer's own vocabulary, and rows of the dataset itself; later on, some rows of
each batch. One difference, and ``tokenizers`` does all the work.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from modelmill.artifacts import ContentKind
from modelmill.errors import shorten
from modelmill.tokens.images import ImageInput, ImageReader
from modelmill.tokens.token_ids import Places, Tokens
from modelmill.tokens.tokenizer import encode, load_tokenizer

if TYPE_CHECKING:
    import pyarrow as pa
    from tokenizers import Tokenizer

FIRST_ROWS = 500
"""Rows of the first batch that are compared: all of a small dataset."""
LATER_ROWS = 16
"""Rows of each later batch that are compared."""

_HARD_TEXTS = (
    "",
    " ",
    "\t\r\n\x0b\x0c\x1c\x85\u2028\u2029",
    "\x00a\x01b\x7fc\ufffdd\ufeffe\u200bf\u00adg\u202eh\ue000i",
    "\u0301\u0327 e\u0301 \u00e9 \u1e9b\u0323 a\u0315\u0300\u05ae\u0300b \u212b \u0344",
    "\u0130stanbul \u0131 STRASSE stra\u00dfe \u03a3\u03c3\u03c2 \u01c5 \ufb01 \uff21\uff22 \u2167 \u00bd",
    "\u4e2d\u6587\u5b57 \u65e5\u672c\u8a9e\u306e\u30c6\u30ad\u30b9\u30c8 \ud55c\uad6d\uc5b4",
    "\u1112\u1161\u11ab \U00020000\U0002a6d6",
    "\u0e20\u0e32\u0e29\u0e32\u0e44\u0e17\u0e22 \u0939\u093f\u0928\u094d\u0926\u0940",
    "\u0627\u0644\u0639\u0631\u0628\u064a\u0629 \u05e2\u05d1\u05e8\u05d9\u05ea",
    "\U0001f600\U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f1e9\U0001f1ea",
    "\u2764\ufe0f \U0001f44d\U0001f3fd #\ufe0f\u20e3",
    "don't can't- e.g. U.S.A. 3.14 1,000 $5 a_b C++ C# x@y.z http://a.b/c?d=e&f",
    "...!? \u201cq\u201d \u2014 \u2026 \u00bfq? `^~|+=<>",
    "\u00a0a\u3000b\u2003c\u1680d\u180ee\u2060f",
    "a" * 99 + " " + "b" * 100 + " " + "c" * 101 + " " + "\u00e9" * 100 + " " + "\u4e2d" * 101,
    "unaffable" * 40,
    "x " * 3000,
    "." * 3000,
)
_ADDED_TOKENS = 1000
_VOCABULARY_WORDS = 2000
_RANDOM_TEXTS = 64


class Encoder(Protocol):
    """Turns texts into token ids, or images into pixels."""

    name: str
    """Library and version."""
    dtype: type[np.unsignedinteger]
    """The narrowest type that holds every id, or every pixel."""

    def encode(self, texts: pa.Array) -> Tokens:
        """Tokenise texts.

        :param texts: strings without nulls.
        :return: ids of each text, at least one, packed.
        """


class PixelEncoder:
    """Pillow, for the images of a dataset.

    :param folder: where ``image.json`` lies.
    :param max_length: not read: all images of a model have one size.
    """

    def __init__(self, folder: Path, *, max_length: int) -> None:  # noqa: ARG002 (as the others)
        self._reader = ImageReader(ImageInput.load(folder))
        self.name = self._reader.name
        self.dtype = np.uint8

    def encode(self, texts: pa.Array) -> Tokens:
        """See :meth:`Encoder.encode`.

        :param texts: files of images, without nulls.
        :return: pixels of each image, packed.
        :raises UnreadableImageError: for the first that cannot be decoded.
        """
        return self._reader.encode(texts.to_pylist())


class UnsuitableError(Exception):
    """The fast encoder cannot be used here; the message says why."""


class ReferenceEncoder:
    """``tokenizers``: its ids are the right ones by definition.

    :param folder: where ``tokenizer.json`` lies.
    :param max_length: longer texts are cut, special tokens included.
    """

    def __init__(self, folder: Path, *, max_length: int) -> None:
        self.name = f"tokenizers {metadata.version('tokenizers')}"
        self._tokenizer = load_tokenizer(folder, max_tokens=max_length)
        self.dtype = _narrowest(self._tokenizer)

    def encode(self, texts: pa.Array) -> Tokens:
        """See :meth:`Encoder.encode`."""
        return encode(self._tokenizer, texts.to_pylist())


class FastEncoder:
    """``nanotoken``, compared with ``tokenizers`` at every opportunity.

    :param folder: where ``tokenizer.json`` lies.
    :param max_length: longer texts are cut, special tokens included.
    :raises UnsuitableError: if it is not installed, does not know this kind of tokenizer, or gives other ids.
    """

    def __init__(self, folder: Path, *, max_length: int) -> None:
        try:
            import nanotoken
        except ImportError as error:
            raise UnsuitableError("it is not installed") from error
        self.name = f"nanotoken {metadata.version('nanotoken')}"
        self._max_length = max_length
        self._reference = load_tokenizer(folder, max_tokens=max_length)
        self.dtype = _narrowest(self._reference)
        self._rows = FIRST_ROWS
        with _unsuitable_if("it cannot read this tokenizer.json"):
            self._tokenizer = nanotoken.Tokenizer.from_json((folder / "tokenizer.json").read_bytes())
        texts = np.array([*_HARD_TEXTS, *_random_texts(), *_vocabulary_texts(self._reference)], dtype=object)
        self.compare(texts, self.encode_unchecked(texts))

    def encode(self, texts: pa.Array) -> Tokens:
        """See :meth:`Encoder.encode`."""
        objects = texts.to_numpy(zero_copy_only=False)
        found = self.encode_unchecked(objects)
        rows = _rows_to_compare(texts, self._rows)
        self._rows = LATER_ROWS
        self.compare(objects[rows], found.take(rows))
        return found

    def encode_unchecked(self, texts: npt.NDArray[np.object_]) -> Tokens:
        """Tokenise texts without comparing any: the caller does that, or another call has.

        :param texts: strings.
        :return: ids of each text, packed.
        :raises UnsuitableError: if it fails.
        """
        with _unsuitable_if("it fails"):
            found = self._tokenizer.encode_batch(texts, max_length=self._max_length)
        if len(found) != len(texts):
            raise UnsuitableError(f"it makes {len(found)} rows of {len(texts)} texts")
        values, lengths = found.ids, found.lengths
        if not lengths.all():  # as modelmill.tokens.tokenizer.encode does
            values = np.insert(values, found.offsets[:-1][lengths == 0], 0)
            lengths = np.maximum(lengths, 1)
        return Tokens.packed(values, lengths)

    def compare(self, texts: npt.NDArray[np.object_], found: Tokens) -> None:
        """Compare with ``tokenizers``.

        :param texts: strings.
        :param found: what :meth:`encode_unchecked` made of them.
        :raises UnsuitableError: if the ids of one of them differ.
        """
        expected = encode(self._reference, texts.tolist())
        same = np.array_equal(expected.lengths, found.lengths)
        if same and np.array_equal(expected.values, found.flat()):
            return
        for text, right, wrong in zip(texts, expected, found, strict=True):
            if not np.array_equal(right, wrong):
                raise UnsuitableError(f"its ids differ from those of tokenizers for the text {shorten(text)}")


@contextlib.contextmanager
def _unsuitable_if(what: str) -> Iterator[None]:
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a panic of Rust code is no Exception
        raise UnsuitableError(f"{what} ({error})") from error


ENCODERS: Mapping[ContentKind, tuple[Callable[..., Encoder], ...]] = {
    "text": (FastEncoder, ReferenceEncoder),
    "image": (PixelEncoder,),
}
"""What encodes the contents of a dataset: the first that is suitable."""


def _narrowest(tokenizer: Tokenizer) -> type[np.unsignedinteger]:
    largest = max(tokenizer.get_vocab().values(), default=0)
    return np.uint16 if largest <= np.iinfo(np.uint16).max else np.uint32


def _rows_to_compare(texts: pa.Array, count: int) -> Places:
    """Choose rows: half of them of all lengths, half those with the most bytes beyond ASCII."""
    import pyarrow.compute as pc

    if count >= len(texts):
        return np.arange(len(texts))
    size = pc.binary_length(texts).to_numpy().astype(np.int64)
    # Each character has one byte that does not continue another one.
    beyond = size - pc.utf8_length(texts).to_numpy()
    spread = np.linspace(0, len(texts) - 1, count // 2).astype(np.int64)
    return np.union1d(
        np.argsort(size, kind="stable")[spread], np.argsort(-beyond, kind="stable")[: count // 2]
    )


def _random_texts() -> Iterator[str]:
    """Yield texts of random characters, of every plane of Unicode; the same ones each time."""
    random = np.random.default_rng(0)
    for limit in (0x250, 0x3000, 0x10000, 0x110000):
        codes = random.integers(1, limit, (_RANDOM_TEXTS // 4, 48))
        codes[(codes >= 0xD800) & (codes < 0xE000)] = ord(" ")  # surrogates are no characters
        codes[:, ::9] = ord(" ")
        yield from ("".join(map(chr, row)) for row in codes.tolist())


def _vocabulary_texts(tokenizer: Tokenizer) -> Iterator[str]:
    """Yield texts that are made of the vocabulary: special tokens in all surroundings, and other tokens."""
    added: Sequence[Any] = list(tokenizer.get_added_tokens_decoder().values())
    for token in added[:_ADDED_TOKENS]:
        name = token.content
        yield f"a {name} b{name}c  {name}{name} {name.lower()} {name.upper()} {name[:-1]} {name}"
    words = sorted(tokenizer.get_vocab())
    words = words[:: max(1, len(words) // _VOCABULARY_WORDS)]
    yield from (" ".join(words[at : at + 20]) for at in range(0, len(words), 20))
    yield from ("".join(words[at : at + 3]) for at in range(0, len(words), 40))
