"""What Spark's workers do with batches of videos.

All tasks have the same columns on their way through the engine, and a task's row travels as JSON: its types
are given once, by Arrow on the driver, so that engines cannot differ in them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelmill.errors import TableError
from modelmill.system.digests import file_digest
from modelmill.tables.source_files import check_source
from modelmill.videos.limited_process import LimitedProcess
from modelmill.videos.limits import CONTENT_BYTES
from modelmill.videos.messages import LENGTH, packed
from modelmill.videos.refusals import RefusedVideoError
from modelmill.videos.sources import local_path, sidecar_digest

if TYPE_CHECKING:
    import pyarrow as pa

    from modelmill.videos.requests import VideoRequest

IDENTIFIED = "key string, path string, digest string, beside string, reason string, detail string"
"""Columns of :func:`identified_batches`, as Spark spells them."""
WORKED = "key string, number bigint, row string, reason string, detail string"
"""Columns of :func:`worked_batches`, as Spark spells them."""


def identified_batches(
    batches: Iterable[pa.RecordBatch], *, request: VideoRequest
) -> Iterator[pa.RecordBatch]:
    """Say which video each row is: by its digest.

    :param batches: key, path, content, digest, as far as the request names them.
    :param request: the limits.
    :yields: the columns of :data:`IDENTIFIED`; a video that cannot be read has no digest, but a reason.
        ``beside`` is the digest of its file of subtitles.
    """
    for batch in batches:
        yield _batch([_identified(row, request) for row in batch.to_pylist()], IDENTIFIED)


def _identified(row: Mapping[str, Any], request: VideoRequest) -> dict[str, Any]:
    content, path, digest = row.get("content"), row.get("path"), row.get("digest") or None
    found: dict[str, Any] = {"key": row["key"], "path": path, "digest": digest}
    path = None if path is None else local_path(path)
    try:
        if content is not None and len(content) > CONTENT_BYTES:
            raise RefusedVideoError("too_large", f"{len(content):,} bytes in a column, of {CONTENT_BYTES:,}")
        if content is None:
            _check_place(path)
        if digest is None:
            found["digest"] = _digest(path, content, request.limits.max_bytes)
        if content is None and path and request.task_options.get("sidecars"):
            found["beside"] = sidecar_digest(path)
    except RefusedVideoError as error:
        found |= {"digest": None, "reason": error.reason, "detail": error.detail}
    return found


def _check_place(path: str | None) -> None:
    if not path:
        raise RefusedVideoError("missing", "neither a path nor content")
    if "://" in path:
        raise RefusedVideoError("outside", "only local files are read: mount the store, or hand in content")
    try:
        check_source(path)
    except TableError as error:
        raise RefusedVideoError("outside", str(error)[:300]) from error
    except ValueError as error:  # a NUL in the name
        raise RefusedVideoError("missing", str(error)) from error


def _digest(path: str | None, content: bytes | None, most: int) -> str:
    if content is not None:
        return hashlib.sha256(content).hexdigest()
    place = Path(path or "")
    try:
        if place.is_symlink():
            raise RefusedVideoError("link")
        if not place.exists():
            raise RefusedVideoError("missing")
        if not place.is_file():
            raise RefusedVideoError("not_a_file")
        if place.stat().st_size > most:
            raise RefusedVideoError("too_large", f"{place.stat().st_size:,} bytes of {most:,}")
        return file_digest(place)
    except OSError as error:
        raise RefusedVideoError("unreadable", error.strerror or "") from error


def worked_batches(batches: Iterable[pa.RecordBatch], *, request: VideoRequest) -> Iterator[pa.RecordBatch]:
    """Work on videos, one after the other, in a limited process.

    :param batches: key, path, content, digest.
    :param request: the task, its options and the limits.
    :yields: the columns of :data:`WORKED`: the rows of each video, or why it is refused.
    """
    with LimitedProcess(request.limits, tasks=(request.task_name,)) as process:
        for batch in batches:
            for row in batch.to_pylist():
                yield _batch(_worked(process, row, request), WORKED)


def _worked(process: LimitedProcess, row: Mapping[str, Any], request: VideoRequest) -> list[dict[str, Any]]:
    options = request.task_options
    source = {name: row.get(name) for name in ("path", "content", "digest")}
    source["path"] = None if source["path"] is None else local_path(source["path"])
    source["sidecars"] = bool(options.get("sidecars"))
    try:
        rows = process.work(request.task_name, source, options)
    except RefusedVideoError as error:
        return [_result(row["key"], 0, None, error)]
    return [_result(row["key"], number, one, None) for number, one in enumerate(rows)]


def _result(
    key: str, number: int, row: dict[str, Any] | None, error: RefusedVideoError | None
) -> dict[str, Any]:
    text = None if row is None else packed(row)[LENGTH.size :].decode()
    reason, detail = (None, None) if error is None else (error.reason, error.detail)
    return {"key": key, "number": number, "row": text, "reason": reason, "detail": detail}


def _batch(rows: list[dict[str, Any]], columns: str) -> pa.RecordBatch:
    import pyarrow as pa

    types = {"string": pa.string(), "bigint": pa.int64()}
    named = [column.split(" ") for column in columns.split(", ")]
    schema = pa.schema([(name, types[kind]) for name, kind in named])
    return pa.RecordBatch.from_pylist(rows, schema=schema)
