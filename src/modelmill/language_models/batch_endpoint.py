"""Files and batches of an endpoint, in OpenAI's form, which many endpoints have taken over.

``POST /files`` takes the requests as lines of JSON, ``POST /batches`` has them answered within hours, ``GET
/batches/ID`` says how far that is, and ``GET /files/ID/content`` gives the answers, one a line, in any order.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelmill.errors import ConfigError, TransientError
from modelmill.language_models.client import error_detail
from modelmill.language_models.connection import Connection
from modelmill.language_models.dialects import canonical, read_json
from modelmill.language_models.endpoint import Endpoint

ENDED = ("completed", "expired", "cancelled", "failed")
"""States from which a batch does not go on."""

_NAME = "modelmill_batch"
"""Field of a batch's metadata that has the name which we gave it."""
_ID = re.compile(r"[A-Za-z0-9_.:-]{1,200}")
_TRIES = 4
_PAUSE = 0.5
_PAGES = 20
"""Of the list of batches, newest first: one is looked for seconds after it was made."""
_MOST_BYTES = 4_000_000
"""Of a response that is no file, and of a line of a file."""
_BYTES_A_REQUEST = 100_000
"""Of a file of answers, for each request of the batch: an answer has some hundred."""
_BYTES_A_SECOND = 500_000
"""The slowest way on which a file is sent or fetched."""


@dataclass(frozen=True)
class Batch:
    """A batch, as the endpoint tells of it."""

    id: str
    status: str
    input: str | None
    """File with the requests."""
    done: int
    """Requests that are answered, or have failed."""
    total: int
    output: str | None
    """File with the answers."""
    errors: str | None
    """File with the requests that have failed."""
    message: str
    """Why it has failed as a whole."""

    @property
    def has_ended(self) -> bool:
        """Whether it does not go on."""
        return self.status in ENDED


@dataclass(frozen=True)
class BatchLine:
    """What came of one request of a batch."""

    name: str
    """As the request was named."""
    status: int | None
    """Of the response; None: there is none, since the request was not asked."""
    body: bytes
    """JSON; empty where there is none."""

    @property
    def may_be_billed(self) -> bool:
        """Whether a line without an answer may have been billed: as one that is asked alone."""
        return self.status not in (None, 429)


class BatchClient:
    """One connection to an endpoint.

    :param endpoint: where.
    :param timeout: seconds that a request may take, from its beginning to the last byte of the answer; one
        with a file takes longer by its size.
    """

    def __init__(self, endpoint: Endpoint, *, timeout: float) -> None:
        import httpx

        self._endpoint = endpoint
        self._timeout = timeout
        self._connection = Connection(
            endpoint,
            {"accept": "application/json"},
            context=httpx.create_ssl_context(),
            timeout=timeout,
        )

    def __enter__(self) -> BatchClient:
        """Return the client."""
        return self

    def __exit__(self, *_error: object) -> None:
        """Close the connection."""
        self._connection.close()

    def upload(self, name: str, requests: Path) -> str:
        """Send the file of a batch. Nothing is tried again.

        :param name: of the batch.
        :param requests: file of lines of JSON, one for each request.
        :return: the file's id.
        :raises ConfigError: if the endpoint takes no batches.
        :raises TransientError: if it does not answer.
        """
        with requests.open("rb") as lines:
            sent = self._sent(
                "POST",
                "files",
                seconds=self._timeout + requests.stat().st_size / _BYTES_A_SECOND,
                data={"purpose": "batch"},
                files={"file": (f"{name}.jsonl", lines)},
            )
        return _id(sent.get("id"))

    def submit(self, name: str, file: str, *, path: str, window: str) -> Batch:
        """Make a batch. Nothing is tried again: the caller looks first whether the batch is there.

        :param name: of the batch, by which :meth:`find` finds it.
        :param file: id of the file with its requests, which no other batch has.
        :param path: of the requests, below the endpoint's URL.
        :param window: time within which they are answered, as the endpoint wants it.
        :return: the batch.
        :raises ConfigError: if the endpoint takes no batches, or not this one.
        :raises TransientError: if it does not answer; the batch may have been made.
        """
        asked = {
            "input_file_id": file,
            "endpoint": f"/v1/{path}",
            "completion_window": window,
            "metadata": {_NAME: name},
        }
        headers = {"content-type": "application/json", "idempotency-key": name}
        return _batch(self._sent("POST", "batches", content=canonical(asked), headers=headers))

    def find(self, name: str, file: str | None) -> Batch | None:
        """Find a batch that may have been made.

        :param name: of the batch.
        :param file: id of its file, by which it is found where an endpoint keeps no metadata; None: unknown.
        :return: the batch; None if there is none among the newest.
        """
        after = ""
        for _ in range(_PAGES):
            page = self._patiently(f"batches?limit=100{after}")
            found = [one for one in page.get("data") or () if isinstance(one, dict)]
            for one in found:
                named = isinstance(one.get("metadata"), dict) and one["metadata"].get(_NAME) == name
                if named or (file is not None and one.get("input_file_id") == file):
                    return _batch(one)
            if not page.get("has_more") or not found:
                break
            after = f"&after={_id(found[-1].get('id'))}"
        return None

    def look(self, batch: str) -> Batch:
        """Return how far a batch is.

        :param batch: its id.
        :return: the batch.
        """
        return _batch(self._patiently(f"batches/{_id(batch)}"))

    def lines(self, batch: Batch, *, requests: int) -> Iterator[BatchLine]:
        """Yield what came of a batch's requests, as its files have it.

        :param batch: one that has ended.
        :param requests: how many it has: of files that are far longer than so many answers no more is read.
        :yield: lines; what is no such line is left out.
        :raises TransientError: if the endpoint does not answer.
        """
        for file in filter(None, (batch.output, batch.errors)):
            for line in self._file(file, most_bytes=_MOST_BYTES + requests * _BYTES_A_REQUEST):
                found = _line(line)
                if found is not None:
                    yield found

    def forget(self, *files: str | None) -> None:
        """Delete files at the endpoint; if that fails, they stay as long as its own rule says.

        :param *files: their ids; None: there is none.
        """
        for file in filter(None, files):
            with contextlib.suppress(ConfigError, TransientError):
                self._sent("DELETE", f"files/{file}")

    def _file(self, file: str, *, most_bytes: int) -> Iterator[bytes]:
        import httpx

        left, path = b"", f"files/{file}/content"
        seconds = self._timeout + most_bytes / _BYTES_A_SECOND
        try:
            with self._connection.request("GET", path, seconds=seconds) as reply:
                if reply.status != 200:
                    raise self._refusal(reply.status, reply.read(_MOST_BYTES))
                for part in reply.pieces(most_bytes):
                    *lines, left = (left + part).split(b"\n")
                    yield from lines
                    if len(left) > _MOST_BYTES:
                        raise _strange(f"a line of more than {_MOST_BYTES:,} bytes")
        except httpx.HTTPError as error:
            raise _unreachable(type(error).__name__) from error
        yield left

    def _patiently(self, path: str) -> dict[str, Any]:
        for number in range(_TRIES):
            try:
                return self._sent("GET", path)
            except TransientError:
                if number == _TRIES - 1:
                    raise
                time.sleep(_PAUSE * 2**number)
        raise AssertionError("unreachable")

    def _sent(self, method: str, path: str, **content: Any) -> dict[str, Any]:
        import httpx

        try:
            with self._connection.request(method, path, **content) as reply:
                body = reply.read(_MOST_BYTES)
        except httpx.HTTPError as error:
            raise _unreachable(type(error).__name__) from error
        if reply.status != 200:
            raise self._refusal(reply.status, body)
        with contextlib.suppress(ValueError):
            found = read_json(body)
            if isinstance(found, dict):
                return found
        raise _strange("a page that is no JSON object")

    def _refusal(self, status: int, body: bytes) -> ConfigError | TransientError:
        detail = self._endpoint.without_key(error_detail(status, body))
        if status in (408, 409, 425, 429) or status >= 500:
            return _unreachable(detail)
        return ConfigError(
            "the language model's endpoint must take batches",
            got=detail,
            remedy="see the connection's host and password; leave out batch where the endpoint has none",
        )


def _batch(found: Mapping[str, Any]) -> Batch:
    counts = found.get("request_counts")
    counts = counts if isinstance(counts, dict) else {}
    errors = found.get("errors")
    listed = errors.get("data") if isinstance(errors, dict) else None
    messages = [str(one.get("message")) for one in listed or () if isinstance(one, dict)]
    return Batch(
        id=_id(found.get("id")),
        status=str(found.get("status")),
        input=_id(found["input_file_id"]) if found.get("input_file_id") else None,
        done=_count(counts.get("completed")) + _count(counts.get("failed")),
        total=_count(counts.get("total")),
        output=_id(found["output_file_id"]) if found.get("output_file_id") else None,
        errors=_id(found["error_file_id"]) if found.get("error_file_id") else None,
        message="; ".join(messages)[:300],
    )


def _line(line: bytes) -> BatchLine | None:
    try:
        found = read_json(line)
        name, response = found["custom_id"], found.get("response")
        status = None if response is None else int(response["status_code"])
        body = b"" if response is None else canonical(response.get("body"))
    except (ValueError, LookupError, TypeError, AttributeError):
        return None
    return BatchLine(name, status, body) if isinstance(name, str) else None


def _id(found: object) -> str:
    """Return an id that the endpoint gave, which becomes a part of URLs."""
    if isinstance(found, str) and _ID.fullmatch(found):
        return found
    raise _strange(f"the id {str(found)[:60]!r}")


def _count(found: object) -> int:
    return found if isinstance(found, int) and found >= 0 else 0


def _unreachable(detail: str) -> TransientError:
    return TransientError(
        "the language model's endpoint must answer",
        got=detail,
        remedy="try again when it does; no batch is lost",
    )


def _strange(detail: str) -> TransientError:
    return TransientError(
        "the language model's endpoint must answer as OpenAI's batches do",
        got=detail,
        remedy="try again, or ask without batch",
    )
