"""Files and batches of the stub of a language model's endpoint, in OpenAI's form."""

from __future__ import annotations

import email.parser
import json
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

Answered = tuple[int, dict[str, Any]] | None
"""Status and body of a response; None: the answer got lost."""
Answer = Callable[[str, bytes], Answered]
"""Answers one request by its path and body."""


@dataclass
class _Batch:
    id: str
    asked: dict[str, Any]
    created: float
    status: str = "in_progress"
    output: str | None = None
    errors: str | None = None
    message: str = ""
    done: int = 0
    total: int = 0


@dataclass
class StubBatches:
    """What the stub keeps. A batch is answered when somebody looks at it after its time.

    :param answer: answers one request.
    :param seconds: that a batch takes.
    :param expired: share of a batch's requests, its last ones, that are not answered in time.
    :param refused: why each batch fails as a whole; empty: it does not.
    :param list_seconds: after which a batch is in the list.
    """

    answer: Answer
    seconds: float = 0.0
    expired: float = 0.0
    refused: str = ""
    list_seconds: float = 0.0
    files: dict[str, bytes] = field(default_factory=dict)
    batches: dict[str, _Batch] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def upload(self, content_type: str, body: bytes) -> dict[str, Any]:
        """Take a file of a form."""
        form = email.parser.BytesParser().parsebytes(f"Content-Type: {content_type}\r\n\r\n".encode() + body)
        parts = {
            str(part.get_param("name", header="content-disposition")): part.get_payload(decode=True)
            for part in form.walk()
            if not part.is_multipart()
        }
        content = parts["file"]
        if parts["purpose"] != b"batch" or not isinstance(content, bytes):
            raise ValueError("a file for batches has their purpose")
        return self._kept(content)

    def create(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Make a batch."""
        with self._lock:
            made = _Batch(f"batch_{uuid.uuid4().hex[:12]}", asked, time.monotonic())
            made.total = self.files[asked["input_file_id"]].count(b"\n")
            self.batches[made.id] = made
            return self._told(made)

    def listed(self) -> dict[str, Any]:
        """Return all batches, the newest first."""
        with self._lock:
            shown = time.monotonic() - self.list_seconds
            data = [self._told(one) for one in reversed(self.batches.values()) if one.created <= shown]
            return {"data": data, "has_more": False}

    def look(self, batch: str) -> dict[str, Any] | None:
        """Return a batch; None if there is none."""
        with self._lock:
            found = self.batches.get(batch)
            if found is None:
                return None
            if found.status == "in_progress" and time.monotonic() >= found.created + self.seconds:
                self._answer_all(found)
            return self._told(found)

    def _answer_all(self, batch: _Batch) -> None:
        if self.refused:
            batch.status, batch.message = "failed", self.refused
            return
        lines = self.files[batch.asked["input_file_id"]].splitlines()
        in_time = round(len(lines) * (1 - self.expired))
        good: list[dict[str, Any]] = []
        bad: list[dict[str, Any]] = []
        for number, line in enumerate(lines):
            head, _, body = line.partition(b',"body":')
            asked = json.loads(head + b"}")
            told: dict[str, Any] = {"id": f"line_{number}", "custom_id": asked["custom_id"]}
            if number >= in_time:
                error = {"code": "batch_expired", "message": "This request could not be executed in time."}
                bad.append({**told, "response": None, "error": error})
                continue
            found = self.answer(asked["url"], body[:-1])
            if found is not None:
                response = {"status_code": found[0], "request_id": told["id"], "body": found[1]}
                (good if found[0] == 200 else bad).append({**told, "response": response, "error": None})
        # Answers come in any order.
        batch.output, batch.errors = (self._file(lines) if lines else None for lines in (good[::-1], bad))
        batch.done = in_time
        batch.status = "expired" if in_time < len(lines) else "completed"

    def _file(self, lines: list[dict[str, Any]]) -> str:
        return str(self._kept(b"".join(json.dumps(line).encode() + b"\n" for line in lines))["id"])

    def _kept(self, content: bytes) -> dict[str, Any]:
        name = f"file-{uuid.uuid4().hex[:12]}"
        self.files[name] = content
        return {"id": name, "object": "file", "bytes": len(content), "purpose": "batch"}

    @staticmethod
    def _told(batch: _Batch) -> dict[str, Any]:
        return {
            "id": batch.id,
            "object": "batch",
            **batch.asked,
            "status": batch.status,
            "output_file_id": batch.output,
            "error_file_id": batch.errors,
            "errors": {"object": "list", "data": [{"code": "invalid", "message": batch.message}]}
            if batch.message
            else None,
            "request_counts": {"total": batch.total, "completed": batch.done, "failed": 0},
        }
