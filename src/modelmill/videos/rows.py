"""The rows that jobs over videos write, made of what the workers answer."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from modelmill.errors import ConfigError, TableError
from modelmill.tables.opening import table_schema
from modelmill.tables.reading import check_columns, read_arrow
from modelmill.videos.messages import unpacked
from modelmill.videos.refusals import OF_THE_PLACE
from modelmill.videos.store import Identity

if TYPE_CHECKING:
    import pyarrow as pa

    from modelmill.videos.requests import VideoRequest

_MOST_NAMED = 5


@dataclass(frozen=True)
class Kept:
    """Columns of the source that are carried along."""

    fields: tuple[pa.Field, ...]
    values: Mapping[str, dict[str, Any]]
    """By key."""

    def recipe(self, key: str, base: str, *besides: str | None) -> str:
        """Return the recipe of a video: another one if what its rows have beside the task's columns changes.

        :param key: the video's.
        :param base: the task's recipe.
        :param *besides: its path, and the digest of its subtitles.
        :return: 16 hexadecimal digits.
        """
        return _hashed(base, self.values[key], *besides)


def _hashed(*parts: object) -> str:
    text = json.dumps(parts, default=str, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def kept_columns(request: VideoRequest) -> Kept:
    """Read the columns that are carried along, and check the keys.

    :param request: the table and its columns.
    :return: the columns.
    :raises ConfigError: if a column would stand twice in the result.
    :raises TableError: if a column is missing, or a key is NULL or stands twice.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    named = (request.path, request.content, request.digest)
    wanted = [request.key, *(name for name in named if name), *request.keep, *request.chosen]
    _check_names(request)
    read = list(dict.fromkeys([request.key, *request.keep, *request.chosen]))
    rows = read_arrow(request.table, columns=read)
    check_columns(table_schema(request.table).names, wanted, place=request.table.uri)
    for name, values in request.chosen.items():
        rows = rows.filter(pc.is_in(rows.column(name).cast(pa.string()), pa.array(values, pa.string())))
    _check_key(rows.schema.field(request.key), request)
    keys = rows.column(request.key).cast(pa.string())
    counts = pc.value_counts(keys.combine_chunks()).to_pylist()
    wrong = sorted(str(one["values"]) for one in counts if one["counts"] > 1 or one["values"] is None)
    if wrong:
        raise TableError(
            f"each video has a key of its own ({request.key} in {request.table})",
            got=", ".join(wrong[:_MOST_NAMED]),
            remedy="make a column of unique keys, or remove what stands twice",
        )
    values = rows.select(list(request.keep)).to_pylist() if request.keep else [{}] * rows.num_rows
    fields = tuple(rows.schema.field(name) for name in request.keep)
    return Kept(fields, dict(zip(keys.to_pylist(), values, strict=True)))


def _check_key(field: pa.Field, request: VideoRequest) -> None:
    """Refuse keys that engines spell differently: 1.0 is "1" to one, and "1.0" to another."""
    import pyarrow.types as kinds

    of_one_spelling = (
        kinds.is_string,
        kinds.is_large_string,
        kinds.is_integer,
        kinds.is_boolean,
        kinds.is_date,
    )
    whole = kinds.is_decimal(field.type) and field.type.scale == 0
    if not whole and not any(fits(field.type) for fits in of_one_spelling):
        raise TableError(
            f"a video's key is a text, a whole number or a date ({request.key} in {request.table})",
            got=str(field.type),
            remedy="make a column of texts for it",
        )


def _check_names(request: VideoRequest) -> None:
    if not request.path and not request.content:
        raise ConfigError("videos are named by a path or are in a column", remedy="set path or content")
    own = {name.lower() for name in [*_BEFORE, *request.task.columns, "content", "reason", "detail"]}
    taken = sorted({name for name in request.keep if name.lower() in own or request.keep.count(name) > 1})
    if taken:
        raise ConfigError(
            "a column that is carried along has a name of its own, and stands once",
            got=", ".join(taken),
            remedy="leave it out of keep, or rename it in the table",
        )


_BEFORE = ("key", "path", "digest", "recipe")


def column_types() -> dict[str, pa.DataType]:
    """Return the Arrow type of each kind of measure, by the name that tasks use."""
    import pyarrow as pa

    return {
        "boolean": pa.bool_(),
        "bytes": pa.binary(),
        "float": pa.float64(),
        "integer": pa.int64(),
        "numbers": pa.list_(pa.float64()),
        "text": pa.string(),
        "texts": pa.list_(pa.string()),
    }


def result_schema(request: VideoRequest, kept: Kept) -> pa.Schema:
    """Return the columns of the rows of videos that were read."""
    import pyarrow as pa

    fields = [pa.field(name, pa.string()) for name in _BEFORE]
    types = column_types()
    fields += [pa.field(name, types[kind]) for name, kind in request.task.columns.items()]
    if request.carries_content and request.content:
        fields.append(pa.field("content", pa.binary()))
    return pa.schema([*fields, *kept.fields])


def quarantine_schema(kept: Kept) -> pa.Schema:
    """Return the columns of the rows of videos that were refused."""
    import pyarrow as pa

    names = [*_BEFORE, "reason", "detail"]
    return pa.schema([*(pa.field(name, pa.string()) for name in names), *kept.fields])


@dataclass(frozen=True)
class Video:
    """A video of the source."""

    key: str
    path: str | None
    identity: Identity
    reason: str | None = None
    """Why it cannot be worked on; None: it can."""
    detail: str | None = None
    limits: str = ""
    """Limits of the run."""

    def refusal(self, reason: str | None = None) -> Identity:
        """Return the identity of its row in the quarantine: with other limits it may not be refused.

        :param reason: why; None: as far as its content says.
        :return: key, digest and recipe; without a digest if the reason is about the file's place, so that the
            next run tries it again.
        """
        key, digest, recipe = self.identity
        if reason in OF_THE_PLACE:
            return key, None, _hashed(recipe, self.limits, reason)
        return key, digest, _hashed(recipe, self.limits)

    def begun(self, identity: Identity) -> dict[str, Any]:
        """Return the first columns of its rows."""
        key, digest, recipe = identity
        return {"key": key, "path": self.path, "digest": digest, "recipe": recipe}

    def refused(self, reason: str, detail: str | None, kept: Kept) -> dict[str, Any]:
        """Return its row in the quarantine."""
        begun = self.begun(self.refusal(reason))
        return {**begun, **kept.values[self.key], "reason": reason, "detail": detail}


def split_answers(
    answers: Sequence[Mapping[str, Any]], videos: Mapping[str, Video], kept: Kept
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Make rows of what workers answered.

    :param answers: rows with the columns of :data:`modelmill.videos.batches.WORKED`.
    :param videos: the videos that were worked on, by key.
    :param kept: columns to carry along.
    :return: the rows of videos that were read, and of those that were refused, in the order of their keys.
    """
    read, refused = list[dict[str, Any]](), list[dict[str, Any]]()
    for answer in sorted(answers, key=lambda one: (one["key"], one["number"])):
        video = videos[answer["key"]]
        if answer["reason"] is not None:
            refused.append(video.refused(answer["reason"], answer["detail"], kept))
        else:
            begun = {**video.begun(video.identity), **kept.values[answer["key"]]}
            read.append({**begun, **unpacked(answer["row"].encode())})
    return read, refused
