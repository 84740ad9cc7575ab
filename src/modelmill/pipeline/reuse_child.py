"""The process that answers which steps have results: ``python -m modelmill.pipeline.reuse_child``.

A line of JSON with the requests comes in, a line with an answer for each goes out, until the input ends or
nobody has asked for :data:`IDLE_SECONDS`. See :mod:`modelmill.pipeline.reuse_process`.
"""

from __future__ import annotations

import json
import os
import select
import sys
from typing import BinaryIO

from modelmill.pipeline.request import StepRequest
from modelmill.pipeline.reuse import reusable
from modelmill.settings import Settings

IDLE_SECONDS = 600.0
"""After so long without a question the process ends: the memory is others' then."""


def main() -> None:
    """Answer questions from standard input on standard output."""
    questions, answers = os.fdopen(os.dup(0), "rb", buffering=0), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no answer
    settings = Settings.from_environment()
    while (question := _next(questions)) is not None:
        requests = [StepRequest.model_validate(one) for one in json.loads(question)]
        found = [
            {"result": one.result.model_dump(mode="json") if one.result else None, "lines": one.lines}
            for one in reusable(requests, settings)
        ]
        answers.write(json.dumps(found).encode() + b"\n")
        answers.flush()


def _next(questions: BinaryIO) -> bytes | None:
    found = bytearray()
    while not found.endswith(b"\n"):
        if not select.select([questions], [], [], IDLE_SECONDS)[0]:
            return None
        part = questions.read(1 << 20)
        if not part:
            return None
        found += part
    return bytes(found)


if __name__ == "__main__":
    main()
    sys.exit(0)
