"""What a model reads of an example: a text as token ids, an image as pixels.

This is the one seam between examples and everything that learns from them. A content becomes a **row of
whole numbers** (:class:`~modelmill.tokens.token_ids.Tokens`), by a reader for which a bundle has a file. From
there on caches, features, heads, training, evaluation and serving treat all rows alike. What differs is said
here: the file, the column, what counts as missing, how a content is sent in JSON.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from modelmill.artifacts import ContentKind
from modelmill.errors import InputError, shorten
from modelmill.system.digests import file_digest
from modelmill.tokens.images import (
    IMAGE_FILE,
    ImageInput,
    ImageReader,
    UnreadableImageError,
    black_image,
    decoded,
)
from modelmill.tokens.token_ids import Tokens
from modelmill.tokens.tokenizer import encode, load_tokenizer

if TYPE_CHECKING:
    import pyarrow as pa
    from tokenizers import Tokenizer

Content = str | bytes
"""A text, or the file of an image."""

BLANKS = (
    "\0 \t\n\r\f\v\u0085\u00a0\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u200b"
    "\u2028\u2029\u202f\u205f\u3000\ufeff\u00ad\u1680\u180e\u200c\u200d\u200e\u200f\u202a\u202b\u202c\u202d\u202e"
    "\u2060\u2061\u2062\u2063\u2064\u2066\u2067\u2068\u2069"
)
"""A text of only these characters is empty. NUL is one: MLflow's server drops it at the end of a text."""


class Reader(Protocol):
    """Makes rows of whole numbers of contents of one kind."""

    def encode(self, contents: Sequence[Any]) -> Tokens:
        """Return a row for each content.

        :param contents: all there, and readable.
        :return: the rows.
        """


class TextReader:
    """Tokenises texts.

    :param tokenizer: see :func:`~modelmill.tokens.tokenizer.load_tokenizer`.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer

    def encode(self, contents: Sequence[str]) -> Tokens:
        """See :meth:`Reader.encode`."""
        return encode(self.tokenizer, contents)


class ContentType(ABC):
    """A kind of content."""

    kind: ClassVar[ContentKind]
    file: ClassVar[str]
    """File by which a bundle, or a base model's folder, reads it."""
    common: ClassVar[str]
    """Name under which every model takes it, besides that of the column that it was trained on."""
    accepted: ClassVar[str]
    """What a request may send, in words."""

    @abstractmethod
    def reader(self, folder: Path, *, max_tokens: int) -> Reader:
        """Return what makes rows of contents.

        :param folder: with :attr:`file`.
        :param max_tokens: longer texts are cut, special tokens included.
        :return: the reader.
        :raises ModelError: if the file cannot be read.
        """

    @abstractmethod
    def is_there(self, content: Content | None) -> bool:
        """Return whether there is anything to read; the answer to what is missing is null."""

    @abstractmethod
    def problem(self, content: Content) -> str | None:
        """Return why a content that is there cannot be read; None if it can be."""

    @abstractmethod
    def of_json(self, value: object) -> Content | None:
        """Return the content that a request sends.

        :param value: as JSON has it.
        :return: the content; None for null.
        :raises ValueError: with what is accepted, if it is something else.
        """

    @abstractmethod
    def fits(self, type_: pa.DataType) -> bool:
        """Return whether a column of this type can hold it."""

    @abstractmethod
    def examples(self, longest: int) -> list[Content]:
        """Return a few contents by which a model is warmed up.

        :param longest: tokens of the longest text that a model reads.
        :return: the contents.
        """

    def readable(self, content: Content | None) -> bool:
        """Return whether it is there and can be read."""
        return content is not None and self.is_there(content) and self.problem(content) is None

    def digest(self, content: Content) -> str:
        """Return its SHA-256, 64 hexadecimal digits."""
        raw = content if isinstance(content, bytes) else content.encode()
        return hashlib.sha256(raw).hexdigest()

    def shown(self, content: Content, *, limit: int) -> str:
        """Return what a page shows of it, in at most so many letters."""
        return shorten(content, limit=limit)


class TextContent(ContentType):
    """Texts."""

    kind = "text"
    file = "tokenizer.json"
    common = "text"
    accepted = "a text is a string or null"

    def reader(self, folder: Path, *, max_tokens: int) -> TextReader:
        """See :meth:`ContentType.reader`."""
        return TextReader(load_tokenizer(folder, max_tokens=max_tokens))

    def is_there(self, content: Content | None) -> bool:
        """Return whether it has any character but blanks."""
        return isinstance(content, str) and bool(content.strip(BLANKS))

    def problem(self, content: Content) -> str | None:
        """Return why it is no text."""
        return None if isinstance(content, str) else f"{self.accepted}; got {len(content):,} bytes"

    def of_json(self, value: object) -> Content | None:
        """See :meth:`ContentType.of_json`."""
        if value is None or isinstance(value, str):
            return value
        raise ValueError(f"{self.accepted}; got {shorten(value, limit=50)}")

    def examples(self, longest: int) -> list[Content]:
        """See :meth:`ContentType.examples`: the empty text, a short one, and one of full length."""
        return ["", "warm", "warm " * longest]

    def fits(self, type_: pa.DataType) -> bool:
        """See :meth:`ContentType.fits`."""
        import pyarrow as pa

        return bool(pa.types.is_string(type_) or pa.types.is_large_string(type_))


class ImageContent(ContentType):
    """Images: the bytes of a file."""

    kind = "image"
    file = IMAGE_FILE
    common = "image"
    accepted = "an image is null, or its file in base64"

    def reader(self, folder: Path, *, max_tokens: int) -> ImageReader:  # noqa: ARG002 (an image has one size)
        """See :meth:`ContentType.reader`."""
        return ImageReader(ImageInput.load(folder))

    def is_there(self, content: Content | None) -> bool:
        """Return whether it has any bytes."""
        return bool(content)

    def problem(self, content: Content) -> str | None:
        """Return why it is no image: it is decoded."""
        if not isinstance(content, bytes):
            return "an image is bytes, not a text"
        try:
            decoded(content)
        except UnreadableImageError as error:
            return str(error)
        return None

    def of_json(self, value: object) -> Content | None:
        """See :meth:`ContentType.of_json`. The head of a data URL is left out."""
        if isinstance(value, bytes):
            return value or None
        if value is not None and not isinstance(value, str):
            raise ValueError(f"{self.accepted}; got {shorten(value, limit=50)}")
        content = image_of_base64(value)
        problem = None if content is None else self.problem(content)
        if problem is not None:
            raise ValueError(problem)
        return content

    def examples(self, longest: int) -> list[Content]:  # noqa: ARG002 (all images of a model have one size)
        """See :meth:`ContentType.examples`: a black image."""
        return [black_image()]

    def fits(self, type_: pa.DataType) -> bool:
        """See :meth:`ContentType.fits`."""
        import pyarrow as pa

        return bool(pa.types.is_binary(type_) or pa.types.is_large_binary(type_))

    def shown(self, content: Content, *, limit: int) -> str:
        """Return its size and the first digits of its SHA-256."""
        return f"image of {len(content):,} bytes, SHA-256 {self.digest(content)}"[:limit]


def image_of_base64(text: str | None) -> bytes | None:
    """Return the file of an image that was sent as a text; whether it can be decoded is another question.

    :param text: base64, with or without the head of a data URL.
    :return: the file; None for None and for the empty text.
    :raises ValueError: with what is accepted, if it is no base64.
    """
    if not text:
        return None
    body = text.partition(",")[2] if text.startswith("data:") else text
    try:
        return base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"{ImageContent.accepted}; got {shorten(text, limit=50)}") from error


CONTENTS: Mapping[ContentKind, ContentType] = {one.kind: one for one in (TextContent(), ImageContent())}
"""All kinds of content."""


def content_of(folder: Path) -> ContentType:
    """Return what a bundle, or a base model's folder, reads: images if it has ``image.json``, else texts."""
    image = CONTENTS["image"]
    return image if (folder / image.file).exists() else CONTENTS["text"]


def reader_digest(folder: Path) -> str:
    """Return the SHA-256 of the file by which a folder reads contents, 64 hexadecimal digits."""
    return file_digest(folder / content_of(folder).file)


def load_reader(folder: Path, *, max_tokens: int) -> Reader:
    """Return what makes rows of contents.

    :param folder: a bundle with a reader of its own, which a head has not.
    :param max_tokens: longer texts are cut, special tokens included.
    :return: the reader.
    :raises ModelError: if its file cannot be read.
    """
    return content_of(folder).reader(folder, max_tokens=max_tokens)


def check_utf8(
    texts: pa.Array | pa.ChunkedArray, name: str, *, rule: str, error: type[InputError], remedy: str
) -> None:
    """Make sure that texts can be decoded: Arrow reads a file's bytes as strings without a look at them.

    :param texts: a column of strings; what has no text in it passes.
    :param name: of the column, for the message.
    :param rule: what has to hold, and where.
    :param error: class of the error.
    :param remedy: what to do.
    :raises InputError: of that class, if a text is not UTF-8.
    """
    import pyarrow as pa

    try:
        texts.validate(full=True)
    except pa.ArrowInvalid as damage:
        raise error(rule, got=f"{name}: {damage}", remedy=remedy) from damage
