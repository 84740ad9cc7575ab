"""Checking a rule set, and deciding on a few rows, within a time limit: in a child process that ends with it.

Some rules take minutes on some rows (``LIKE`` with thousands of ``%``, patterns with many repetitions), and
no check of a rule set can tell; and the check itself takes seconds for a long text. A thread cannot be
stopped, a process can. The child stays for the next trial: to import the engine takes longer than most
trials.
"""

from __future__ import annotations

import atexit
import contextlib
import io
import json
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import IO, TYPE_CHECKING, Any

from modelmill.documents.json_content import document_content
from modelmill.errors import InputError, ModelmillError, Problem, RuleSetError, TransientError

if TYPE_CHECKING:
    import pyarrow as pa

TRIAL_SECONDS = 20.0
"""Time that a trial may take. The longest that people make on the canvas takes less than one."""

_START_SECONDS = 60.0
_READY = b"ready\n"


@dataclass(frozen=True)
class CheckedText:
    """What a check found in a rule set's text."""

    document: Any
    """Its content as JSON has it; None if it is not YAML."""
    digest: str | None
    """Of the rule set; None if there are problems."""
    models: tuple[str, ...]
    """Models that its signals name."""
    problems: tuple[Problem, ...]


class TrialProcess:
    """A child process that tries rule sets, one at a time; it is started when it is first needed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        atexit.register(self.close)

    def decide(
        self, text: str, rows: pa.RecordBatch, *, explain: bool, seconds: float = TRIAL_SECONDS
    ) -> list[dict[str, Any]]:
        """Decide on rows.

        :param text: a valid rule set.
        :param rows: the rows.
        :param explain: whether decisions have explanations.
        :param seconds: time that it may take, without the child's start.
        :return: a decision for each row.
        :raises InputError: if it takes longer, or a signal cannot be computed.
        :raises TransientError: if other trials take all the time, or the child cannot start.
        """
        header = {"text": text, "explain": explain, "seconds": seconds}
        return self._answer(header, _packed(rows), wait=3 * seconds, got=f"{rows.num_rows} rows")[1]

    def check(
        self, text: str, *, schema: pa.Schema | None = None, wait: float, seconds: float = TRIAL_SECONDS
    ) -> CheckedText:
        """Check a rule set.

        :param text: YAML or JSON.
        :param schema: columns of the input, see :func:`~modelmill.rules.reading.parse_rule_set`.
        :param wait: seconds that it may wait until others are done.
        :param seconds: time that it may take, without the child's start.
        :return: what is in it, and what is wrong with it.
        :raises InputError: if it takes longer.
        :raises TransientError: if others take all the time, or the child cannot start.
        """
        payload = b"" if schema is None else _packed(schema.empty_table())
        header = {"text": text, "seconds": seconds}
        about, _ = self._answer(header, payload, wait=wait, got=f"{len(text):,} characters")
        problems = tuple(Problem(**one) for one in about["problems"])
        return CheckedText(about["document"], about["digest"], tuple(about["models"]), problems)

    def _answer(
        self, header: dict[str, Any], payload: bytes, *, wait: float, got: str
    ) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        seconds: float = header["seconds"]
        if not self._lock.acquire(timeout=wait):
            raise TransientError("one rule set is tried at a time", remedy="try again in a minute")
        try:
            child = self._ready()
            with _killed_after(seconds, child) as late:
                answer = _ask(child, header, payload)
            if answer is None:
                self.close()  # while nobody else has started another one
        finally:
            self._lock.release()
        if answer is None:
            raise InputError(
                f"a rule set is tried within {seconds:g} seconds"
                if late.is_set()
                else "a rule set must not end the process that tries it",
                got=got,
                remedy="look for LIKE with many %, or repetitions within repetitions; or take less",
            )
        about, _ = answer
        if "error" in about:
            kind = TransientError if about["retryable"] else InputError
            error = kind.__new__(kind)
            ModelmillError.__init__(error, str(about["error"]))
            raise error
        return answer

    def close(self) -> None:
        """End the child, if there is one."""
        child, self._child = self._child, None
        if child is not None:
            child.kill()
            child.wait()
            for pipe in (child.stdin, child.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()

    def _ready(self) -> subprocess.Popen[bytes]:
        if self._child is not None and self._child.poll() is None:
            return self._child
        self.close()
        child = self._child = subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        with _killed_after(_START_SECONDS, child):
            said = _pipe(child.stdout).readline()
        if said != _READY:
            self.close()
            raise TransientError("the process that tries rule sets must start", remedy="try again")
        return child


@contextlib.contextmanager
def _killed_after(seconds: float, child: subprocess.Popen[bytes]) -> Iterator[threading.Event]:
    late = threading.Event()

    def end() -> None:
        late.set()
        child.kill()

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield late
    finally:
        timer.cancel()


def _ask(
    child: subprocess.Popen[bytes], header: dict[str, Any], payload: bytes
) -> tuple[dict[str, Any], list[dict[str, Any]]] | None:
    """Return the child's answer; None if it ended."""
    try:
        _send(_pipe(child.stdin), header, payload)
        answer = _receive(_pipe(child.stdout))
    except OSError:
        return None
    return None if answer is None else (answer[0], _unpacked(answer[1]).to_pylist() if answer[1] else [])


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    if stream is None:
        raise OSError("the child has no such pipe")
    return stream


def _send(stream: IO[bytes], header: dict[str, Any], payload: bytes) -> None:
    about = json.dumps(header).encode()
    stream.write(len(about).to_bytes(8, "big") + len(payload).to_bytes(8, "big") + about + payload)
    stream.flush()


def _receive(stream: IO[bytes]) -> tuple[dict[str, Any], bytes] | None:
    sizes = stream.read(16)
    if len(sizes) < 16:
        return None
    about, payload = int.from_bytes(sizes[:8], "big"), int.from_bytes(sizes[8:], "big")
    content = stream.read(about + payload)
    if len(content) < about + payload:
        return None
    header: dict[str, Any] = json.loads(content[:about])
    return header, content[about:]


def _packed(rows: pa.RecordBatch | pa.Table) -> bytes:
    import pyarrow as pa

    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write(rows)
    return sink.getvalue()


def _unpacked(content: bytes) -> pa.Table:
    import pyarrow as pa

    return pa.ipc.open_stream(content).read_all()


def _decided(header: dict[str, Any], content: bytes) -> pa.RecordBatch:
    from modelmill.rules.engine import Engine
    from modelmill.rules.reading import parse_rule_set
    from modelmill.settings import Settings

    (rows,) = _unpacked(content).to_batches()
    rule_set = parse_rule_set(header["text"], schema=rows.schema)
    return Engine(rule_set, rows.schema, settings=Settings.from_environment()).decide(
        rows, explain=header["explain"]
    )


def _checked(header: dict[str, Any], content: bytes) -> dict[str, Any]:
    from modelmill.rules.reading import parse_rule_set

    text: str = header["text"]
    digest: str | None = None
    models: list[str] = []
    problems: tuple[Problem, ...] = ()
    try:
        rule_set = parse_rule_set(text, schema=_unpacked(content).schema if content else None)
        digest, models = rule_set.digest, rule_set.models
    except RuleSetError as error:
        problems = error.problems
    return {
        "document": document_content(text),
        "digest": digest,
        "models": models,
        "problems": [asdict(problem) for problem in problems],
    }


def main() -> None:
    """Answer trials until the parent closes the pipe."""
    # What libraries print must not get between the answers.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    from modelmill.rules import engine as _engine  # noqa: F401 (takes long)

    answers.write(_READY)
    answers.flush()
    while True:
        asked = _receive(sys.stdin.buffer)
        if asked is None:
            return
        # If the parent dies meanwhile, nobody else ends it.
        limit = int(time.process_time() + 4 * asked[0]["seconds"]) + 60
        resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.getrlimit(resource.RLIMIT_CPU)[1]))
        try:
            about: dict[str, Any] = {}
            answer = b""
            if "explain" in asked[0]:
                answer = _packed(_decided(*asked))
            else:
                about = _checked(*asked)
        except ModelmillError as error:
            about, answer = {"error": str(error), "retryable": error.retryable}, b""
        _send(answers, about, answer)


if __name__ == "__main__":
    main()
