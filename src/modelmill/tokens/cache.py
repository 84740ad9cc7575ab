"""A dataset's texts as token ids: made once for each tokenizer and length, then mapped from a file.

Its images as pixels: made once for each size, likewise. Below, ids stands for both.

The file is Arrow IPC, not compressed, of one record batch. Its column ``ids`` is a list view: the rows stand
in the order of the dataset's keys, whatever the order of the ids in the buffer. The file is made in bounded
memory, and its name holds its own SHA-256: a torn or damaged one is not read but made again.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from modelmill.artifacts import ContentKind, DatasetRef, TableRef
from modelmill.errors import DatasetError
from modelmill.system.digests import file_digest
from modelmill.system.disk import flush
from modelmill.system.locks import lock_of, locked
from modelmill.tables.reading import read_arrow, scan_arrow
from modelmill.tables.versions import table_fingerprint
from modelmill.tokens.contents import ContentType, check_utf8, content_of, reader_digest
from modelmill.tokens.encoders import ENCODERS, Encoder, UnsuitableError
from modelmill.tokens.images import IMAGES_AT_ONCE, UnreadableImageError
from modelmill.tokens.token_ids import Places, Tokens
from modelmill.tokens.tokenizer import unknown_share
from modelmill.workspace import Workspace

if TYPE_CHECKING:
    import pyarrow as pa

_LAYOUT = 1
"""Raised when the file or the ids in it would be others for the same input."""
_CHUNK_ROWS: Mapping[ContentKind, int] = {"text": 8192, "image": IMAGES_AT_ONCE}
"""Rows that are read and encoded at a time."""
LIBRARIES: Mapping[ContentKind, tuple[str, ...]] = {
    "text": ("tokenizers", "nanotoken"),
    "image": ("pillow",),
}
"""Whose versions make other numbers of the same content, by kind: part of what caches are kept by."""
_SET_ASIDE: Mapping[ContentKind, str] = {
    "text": "build the dataset with build_dataset, which sets such rows aside",
    "image": "build the dataset with build_dataset and without a text column, which sets such rows aside",
}
"""What to do about rows that cannot be read. Beside a text an image may be anything."""
_MANY_UNKNOWN = 0.05
"""Share of unknown tokens that is worth a word: a few emojis or foreign names are not."""


@dataclass(frozen=True)
class DatasetTexts:
    """The texts or images of a dataset, in the order of its keys: :class:`~modelmill.tokens.texts.Texts`."""

    dataset: DatasetRef
    workspace: Workspace
    kind: ContentKind = "text"
    """Which of the two."""
    skip_empty: bool = False
    """Leave out rows without a text, for tables that are not datasets."""

    @property
    def column(self) -> str:
        """Name of the text column, or of the image column."""
        return self.dataset.content_column(self.kind)

    def tokens(self, folder: Path, *, max_tokens: int) -> Tokens:
        """Return the token ids of all rows, or their pixels, in the order of their keys.

        They are made at the first call for this version of the dataset, tokenizer and length, and mapped from
        a file ever after. The second of two processes that ask at the same time waits for the first.

        :param folder: where ``tokenizer.json`` lies, or ``image.json``: a base model or a bundle. It says
            which of the two columns is read.
        :param max_tokens: longer texts are cut, special tokens included.
        :return: the ids.
        :raises ModelError: if that file cannot be read.
        :raises InputError: if the dataset cannot be read, a text or image is null, or an image is none.
        """
        place, log, content = self.workspace.cache / "tokens", self.workspace.log, content_of(folder)
        key = self._key(content, folder, max_tokens)
        waits = "waiting for another step that tokenises the same texts"
        with locked(lock_of(place / key), on_wait=lambda: log(waits)):
            path = _kept(place, key, log)
            if path is None:
                encode = functools.partial(self._encode, content)
                path = _make(place, key, encode, folder, max_length=max_tokens, log=log)
            return _mapped(path)  # under the lock: modelmill gc takes it, too

    def values(self, places: Places) -> list[str]:
        """See :meth:`~modelmill.tokens.texts.Texts.values`."""
        rows = read_arrow(self.dataset, columns=[self.column])
        rows = self._with_texts(rows) if self.skip_empty else rows
        texts: list[str] = rows.column(self.column).take(places).to_pylist()
        return texts

    def __str__(self) -> str:
        return str(self.dataset)

    def _key(self, content: ContentType, folder: Path, max_length: int) -> str:
        """Return a digest of everything that the ids depend on."""
        parts = {
            "layout": _LAYOUT,
            "dataset": str(self.dataset),
            "files": table_fingerprint(self.dataset),
            "columns": [self.dataset.key, self.dataset.content_column(content.kind)],
            "tokenizer": reader_digest(folder),
            "max_length": max_length,
            "libraries": library_versions(content.kind),
            **({"skip_empty": True} if self.skip_empty else {}),
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]

    def _encode(self, content: ContentType, encoder: Encoder, path: Path) -> Tokens:
        """Encode file by file into a file, and return its rows in the order of their keys."""
        import pyarrow as pa
        import pyarrow.compute as pc

        column = self.dataset.content_column(content.kind)
        keys, lengths = [], [np.zeros(0, dtype=np.int64)]
        with path.open("wb") as file:
            columns = list(dict.fromkeys([self.dataset.key, column]))
            for read in scan_arrow(self.dataset, columns=columns, batch_rows=_CHUNK_ROWS[content.kind]):
                batch = self._with_texts(read) if self.skip_empty else read
                try:
                    found = encoder.encode(checked_contents(batch, self.dataset, content))
                except UnreadableImageError as error:
                    raise DatasetError(
                        f"each image of a dataset must be readable ({self.dataset}): {error}",
                        got=f"the row with the key {batch.column(self.dataset.key)[error.row]}",
                        remedy=_SET_ASIDE[content.kind],
                    ) from error
                file.write(found.values.astype(encoder.dtype).data)
                keys.append(batch.column(self.dataset.key))
                lengths.append(found.lengths)
        # A file of no bytes cannot be mapped.
        values = (
            np.memmap(path, dtype=encoder.dtype, mode="r") if path.stat().st_size else np.zeros(0, np.uint16)
        )
        # As modelmill.tables.reading.read_arrow sorts them.
        order = pc.sort_indices(pa.chunked_array(keys)).to_numpy() if keys else np.zeros(0, dtype=np.int64)
        return Tokens.packed(values, np.concatenate(lengths)).take(order)

    def _with_texts(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        import pyarrow as pa
        import pyarrow.compute as pc

        texts = batch.column(self.dataset.text_column)
        if not (pa.types.is_string(texts.type) or pa.types.is_large_string(texts.type)):
            return batch  # refused below
        return batch.filter(pc.greater(pc.utf8_length(pc.utf8_trim_whitespace(texts)), 0))


def table_texts(table: TableRef, column: str, workspace: Workspace) -> DatasetTexts:
    """Return the texts of a table that is not a dataset, in alphabetical order, without empty ones.

    :param table: the table.
    :param column: its column with the text.
    :param workspace: its cache keeps the token ids.
    :return: the texts.
    """
    dataset = DatasetRef(uri=table.uri, version=table.version, key=column, text=column, labels=(), split="")
    return DatasetTexts(dataset, workspace, skip_empty=True)


def library_versions(kind: ContentKind) -> dict[str, str | None]:
    """Return the versions of the libraries that make numbers of contents; None if one is not installed."""
    return {name: _version(name) for name in LIBRARIES[kind]}


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _kept(place: Path, key: str, log: Callable[[str], None]) -> Path | None:
    for path in sorted(place.glob(f"{key}-*.arrow")):
        if path.name == f"{key}-{file_digest(path)}.arrow":
            return path
        log(f"{path.name} is damaged: the texts are tokenised again")
        path.unlink()
    return None


def _make(
    place: Path,
    key: str,
    encode: Callable[[Encoder, Path], Tokens],
    folder: Path,
    *,
    max_length: int,
    log: Callable[[str], None],
) -> Path:
    # Only the holder of the lock writes these two: what a dead process left is written over.
    values, draft = place / f".{key}.values", place / f".{key}.arrow"
    content = content_of(folder)
    *preferred, last = ENCODERS[content.kind]
    try:
        for make in preferred:
            try:
                encoder = make(folder, max_length=max_length)
                rows = encode(encoder, values)
                break
            except UnsuitableError as error:
                log(f"texts are tokenised by tokenizers, the slower one; nanotoken cannot be used: {error}")
        else:
            encoder = last(folder, max_length=max_length)
            rows = encode(encoder, values)
        _write(rows, draft)
    finally:
        values.unlink(missing_ok=True)
    target = place / f"{key}-{file_digest(draft)}.arrow"
    draft.rename(target)
    flush(place)
    did, unit = {"text": ("tokenised", "tokens"), "image": ("decoded", "numbers")}[content.kind]
    more = _unknown(unknown_share(folder, rows)) if content.kind == "text" else ""
    log(f"{did} {len(rows):,} {content.kind}s: {int(rows.lengths.sum()):,} {unit}, by {encoder.name}{more}")
    return target


def _unknown(share: float) -> str:
    """Return what to say of tokens that the tokenizer does not know; empty if there are few."""
    if share < _MANY_UNKNOWN:
        return ""
    return (
        f"; {share:.1%} of the texts' tokens are unknown to this tokenizer, and the encoder cannot tell them "
        "apart: take a base model that was trained on this script"
    )


def checked_contents(
    rows: pa.RecordBatch | pa.Table, dataset: DatasetRef, content: ContentType
) -> pa.Array | pa.ChunkedArray:
    """Return what is read of rows of a dataset: whoever wrote it may not have built it with build_dataset.

    :param rows: with the key and the content.
    :param dataset: the dataset.
    :param content: what is read.
    :return: the column, without nulls.
    :raises DatasetError: if the column has another type, a text is not UTF-8, or a row has none.
    """
    import pyarrow.compute as pc

    column = dataset.content_column(content.kind)
    found = rows.column(column)
    if not content.fits(found.type):
        holds = {"text": "strings", "image": "the bytes of images"}[content.kind]
        raise DatasetError(
            f"the {content.kind} column must hold {holds} ({dataset})",
            got=f"{column}: {found.type}",
            remedy="name another column, or cast it when the dataset is built",
        )
    rule = f"texts must be valid UTF-8 ({dataset})"
    check_utf8(found, column, rule=rule, error=DatasetError, remedy=_SET_ASIDE["text"])
    if found.null_count:
        key = rows.column(dataset.key)[pc.index(found.is_null(), True).as_py()]
        raise DatasetError(
            f"a row of a dataset must have {'a text' if content.kind == 'text' else 'an image'} ({dataset})",
            got=f"null in the row with the key {key}",
            remedy=_SET_ASIDE[content.kind],
        )
    return found


def _write(rows: Tokens, path: Path) -> None:
    import pyarrow as pa

    ids = pa.LargeListViewArray.from_arrays(
        pa.array(rows.starts), pa.array(rows.lengths), pa.array(rows.values)
    )
    batch = pa.record_batch([ids], names=["ids"])
    with path.open("wb") as file, pa.ipc.new_file(file, batch.schema) as writer:
        writer.write_batch(batch)
    flush(path)


def _mapped(path: Path) -> Tokens:
    import pyarrow as pa

    ids = pa.ipc.open_file(pa.memory_map(str(path))).get_batch(0).column("ids")
    return Tokens(ids.values.to_numpy(), ids.offsets.to_numpy(), ids.sizes.to_numpy())
