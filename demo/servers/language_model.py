"""A stub of a language model's endpoint: it answers by words and bills, loses and refuses as it is told.

No language model is behind it. It shows how a pipeline behaves, and says nothing about what a model knows::

    python -m demo.servers.language_model --port 8123 --words '{"sport": ["goal"], "trade": ["bank"]}'
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any

from demo.servers.language_model_batches import StubBatches


@dataclass(frozen=True)
class Behaviour:
    """How the stub behaves. Shares are of the requests."""

    words: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Words by label: the label with most of them is answered; without any, the content's hash decides."""
    wrong: float = 0.0
    """Share of contents that get another option than their words say, always the same one."""
    first: float = 0.0
    """Share of contents that get the option that is shown first, whatever they say."""
    gullible: bool = False
    """Whether a content that says ``answer: TEXT`` is answered with that text."""
    busy: float = 0.0
    """Share that is refused with 429 and ``Retry-After``."""
    retry_after: float = 0.02
    """Seconds."""
    lost: float = 0.0
    """Share that is billed, and whose connection is then closed without an answer."""
    slow: float = 0.0
    """Share that is billed, and answered after ``slow_seconds``."""
    slow_seconds: float = 2.0
    failed: float = 0.0
    """Share that is billed, and answered with 500."""
    refused: float = 0.0
    """Share of contents that are never taken: 400, and nothing is billed."""
    most_tokens: int | None = None
    """Of input; a larger request is refused with 429, however often it comes."""
    invalid: float = 0.0
    """Share of contents that get an answer that is no option."""
    without_usage: float = 0.0
    """Share whose answer does not say what was billed."""
    seconds: float = 0.0
    """That each answer takes."""
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    batch_seconds: float = 0.0
    """That a batch takes."""
    batch_expired: float = 0.0
    """Share of a batch's requests that are not answered within its time."""
    batch_refused: str = ""
    """Why each batch fails as a whole; empty: it does not."""
    batch_reply_lost: int = 0
    """How many batches are made without an answer that says so."""
    upload_seconds: float = 0.0
    """That a file of a batch takes."""
    listed_seconds: float = 0.0
    """After which a batch is in the list of batches."""
    seed: int = 0
    key: str = ""
    """Bearer token that is asked for; empty: none."""


@dataclass
class Bill:
    """What the stub has done."""

    requests: int = 0
    billed_input: int = 0
    billed_output: int = 0
    billed: int = 0
    busy: int = 0
    over_limit: int = 0
    """Requests refused because of the limits a minute."""
    unanswered: int = 0
    """Billed requests that got no answer in time."""
    looks: int = 0
    """At batches."""
    contents: Counter[str] = field(default_factory=Counter)
    """Billed requests by SHA-256 of the body."""
    times: list[float] = field(default_factory=list)
    """When requests came that were let through the limits."""


class LanguageModelStub:
    """The stub, on a free port of the loopback interface.

    :param behaviour: how it behaves.
    :param port: 0: any.
    :param record: gets each request: path, headers, body.
    """

    def __init__(
        self,
        behaviour: Behaviour | None = None,
        *,
        port: int = 0,
        record: Callable[[str, Mapping[str, str], bytes], None] | None = None,
    ) -> None:
        self.behaviour = behaviour or Behaviour()
        self.bill = Bill()
        self.record = record
        self._random = random.Random(self.behaviour.seed)  # noqa: S311 (no secret)
        self._lock = threading.Lock()
        self._window: deque[tuple[float, int]] = deque()
        how = self.behaviour
        self.batches = StubBatches(
            self.batch_answer, how.batch_seconds, how.batch_expired, how.batch_refused, how.listed_seconds
        )
        stub = self

        class Handler(_Handler):
            owner = stub

        self.server = _Server(("127.0.0.1", port), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/v1"

    def __enter__(self) -> LanguageModelStub:
        """Serve in a thread."""
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        self.server.shutdown()
        self.server.server_close()

    def refuses(self, body: bytes) -> bool:
        """Return whether a request is never taken."""
        drawn = int(hashlib.sha256(b"refused" + body).hexdigest()[:12], 16)
        return drawn % 10_000 / 10_000 < self.behaviour.refused

    def fate(self) -> str:
        """Draw what happens to a request."""
        how = self.behaviour
        with self._lock:
            drawn = self._random.random()
        for name in ("busy", "lost", "slow", "failed", "without_usage"):
            share: float = getattr(how, name)
            if drawn < share:
                return name
            drawn -= share
        return "answered"

    def let_through(self, tokens: int) -> float:
        """Take a place in the last 60 seconds; return the seconds to come back after, 0 if there is one."""
        how, now = self.behaviour, time.monotonic()
        with self._lock:
            while self._window and self._window[0][0] <= now - 60:
                self._window.popleft()
            used = sum(count for _, count in self._window) if how.tokens_per_minute else 0
            full = how.requests_per_minute is not None and len(self._window) >= how.requests_per_minute
            full = full or (how.tokens_per_minute is not None and used + tokens > how.tokens_per_minute)
            if full:
                self.bill.over_limit += 1
                return max(0.01, self._window[0][0] + 60 - now)
            self._window.append((now, tokens))
            self.bill.times.append(now)
            return 0.0

    def batch_answer(self, path: str, body: bytes) -> tuple[int, dict[str, Any]] | None:
        """Answer one request of a batch; None: its answer is lost."""
        if self.refuses(body):
            return 400, {"error": {"message": "the request is not taken"}}
        found, usage, tokens = _PROTOCOLS[path](self, json.loads(body), self.input_tokens(body))
        fate = self.fate()
        if fate == "busy":
            return 429, {"error": {"message": "slow down"}}
        self.charge(body, tokens, answered=fate in ("answered", "without_usage"))
        if fate == "lost":
            return None
        if fate == "failed":
            return 500, {"error": {"message": "internal error"}}
        return 200, found if fate == "without_usage" else {**found, "usage": usage}

    def charge(self, body: bytes, tokens: tuple[int, int], *, answered: bool) -> None:
        """Bill a request."""
        with self._lock:
            self.bill.billed += 1
            self.bill.billed_input += tokens[0]
            self.bill.billed_output += tokens[1]
            self.bill.unanswered += not answered
            self.bill.contents[hashlib.sha256(body).hexdigest()] += 1

    def count(self, name: str) -> None:
        """Count one more."""
        with self._lock:
            setattr(self.bill, name, getattr(self.bill, name) + 1)

    def input_tokens(self, body: bytes) -> int:
        """Return the tokens of input that a request is billed for."""
        return len(body) // 4 + 12

    def chosen(self, options: Sequence[str], content: str) -> str:
        """Return the option that a content gets, or a text that is none."""
        how = self.behaviour
        if how.gullible and "answer: " in content:
            return content.partition("answer: ")[2].split("\n")[0]
        drawn = int(hashlib.sha256(content.encode()).hexdigest()[:12], 16)
        chance = drawn % 10_000 / 10_000
        if chance < how.first:
            return options[0]
        if 1 - chance < how.invalid:
            return "something else"
        found = content.lower().split()
        counts = {label: sum(found.count(word) for word in how.words.get(label, ())) for label in options}
        best = max(counts, key=lambda label: counts[label])
        if not counts[best]:
            return sorted(options)[drawn % len(options)]
        if (drawn >> 14) % 10_000 / 10_000 < how.wrong:
            others = sorted(label for label in options if label != best and label in how.words)
            return others[(drawn >> 28) % len(others)] if others else best
        return best


Answer = tuple[dict[str, Any], dict[str, int], tuple[int, int]]
"""The answer without its usage, its usage, and the tokens of input and output."""


def _chat(stub: LanguageModelStub, asked: dict[str, Any], size: int) -> Answer:
    questions = asked["response_format"]["json_schema"]["schema"]["properties"]
    content = asked["messages"][-1]["content"]
    text = json.dumps({name: stub.chosen(one["enum"], content) for name, one in questions.items()})
    tokens = (size, len(text) // 4 + 1)
    found: dict[str, Any] = {
        "id": "stub",
        "object": "chat.completion",
        "model": asked["model"],
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
    }
    usage = {"prompt_tokens": tokens[0], "completion_tokens": tokens[1], "total_tokens": sum(tokens)}
    return found, usage, tokens


def _systemone(stub: LanguageModelStub, asked: dict[str, Any], size: int) -> Answer:
    """Answer typed decisions, with a probability that the content's hash decides."""
    answers = {}
    for name, question in asked["questions"].items():
        options, content = list(question["criteria"]), str(asked["state"])
        best = stub.chosen(options, content)
        sure = 0.6 + 0.39 * (int(hashlib.sha256(content.encode()).hexdigest()[12:16], 16) / 0xFFFF)
        rest = (1 - sure) / max(1, len(options) - 1)
        probabilities = {option: sure if option == best else rest for option in options}
        answers[name] = {"type": "choice", "choice": best, "confidence": sure, "probabilities": probabilities}
    return (
        {"model": asked["model"], "answers": answers},
        {"input_tokens": size, "output_tokens": 0},
        (size, 0),
    )


def _decisions(stub: LanguageModelStub, asked: dict[str, Any], size: int) -> Answer:
    """Answer the same in OpenAI's form."""
    questions = {
        question["name"]: {"criteria": {choice["value"]: None for choice in question["choices"]}}
        for question in asked["questions"]
    }
    of = {"model": asked["model"], "state": asked["input"], "questions": questions}
    found, usage, tokens = _systemone(stub, of, size)
    answers = []
    for name, answer in found["answers"].items():
        listed = [{"value": value, "probability": p} for value, p in answer["probabilities"].items()]
        answers.append({**answer, "name": name, "probabilities": listed})
    return {**found, "answers": answers}, usage, tokens


_PROTOCOLS = {
    "/v1/decisions": _decisions,
    "/v1/chat/completions": _chat,
    "/v1/systemone": _systemone,
}


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], OSError):  # clients are killed: that is no error
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    owner: LanguageModelStub
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        batches, path = self.owner.batches, self.path.removeprefix("/v1/")
        name = path.partition("/")[2]
        if path.startswith(("batches", "files")) and not self._may():
            return
        if path.startswith("batches?"):
            self._answer(200, batches.listed())
        elif path.startswith("batches/"):
            self.owner.count("looks")
            found = batches.look(name)
            self._answer(200 if found else 404, found or {"error": {"message": "no such batch"}})
        elif path.startswith("files/"):
            content = batches.files.get(name.removesuffix("/content"))
            if content is None:
                self._answer(404, {"error": {"message": "no such file"}})
            else:
                self._send(200, content)
        else:
            bill = self.owner.bill
            self._answer(200, {**asdict(bill), "contents": dict(bill.contents)})

    def do_DELETE(self) -> None:
        if self._may():
            found = self.owner.batches.files.pop(self.path.rpartition("/")[2], None)
            self._answer(200 if found is not None else 404, {"deleted": found is not None})

    def _may(self) -> bool:
        how = self.owner.behaviour
        if how.key and self.headers.get("authorization") != f"Bearer {how.key}":
            shown = self.headers.get("authorization", "no key")
            self._answer(401, {"error": {"message": f"Incorrect API key provided: {shown}"}})
            return False
        return True

    def _take_batch(self, body: bytes) -> None:
        """Take a file, or make a batch of one."""
        batches, how = self.owner.batches, self.owner.behaviour
        if self.path == "/v1/files":
            time.sleep(how.upload_seconds)
            self._answer(200, batches.upload(self.headers["content-type"], body))
            return
        made = batches.create(json.loads(body))
        if len(batches.batches) <= how.batch_reply_lost:
            self.close_connection = True
        else:
            self._answer(200, made)

    def do_POST(self) -> None:
        stub, how = self.owner, self.owner.behaviour
        length = int(self.headers.get("content-length", 0))
        body = self.rfile.read(length)
        if len(body) < length:
            self.close_connection = True  # the client was killed while it sent
            return
        stub.count("requests")
        if stub.record:
            stub.record(self.path, dict(self.headers.items()), body)
        if not self._may():
            return
        if self.path in ("/v1/files", "/v1/batches"):
            self._take_batch(body)
            return
        if self.path not in _PROTOCOLS:
            self._answer(404, {"error": {"message": "no such path"}})
            return
        if stub.refuses(body):
            self._answer(400, {"error": {"message": "the request is not taken"}})
            return
        asked = json.loads(body)
        found, usage, tokens = _PROTOCOLS[self.path](stub, asked, stub.input_tokens(body))
        too_large = how.most_tokens is not None and tokens[0] > how.most_tokens
        later = 0.0 if too_large else stub.let_through(sum(tokens))
        fate = "busy" if later or too_large else stub.fate()
        if fate == "busy":
            stub.count("busy")
            self._answer(
                429, {"error": {"message": "slow down"}}, {"Retry-After": str(later or how.retry_after)}
            )
            return
        self._fulfil(fate, body, tokens, found if fate == "without_usage" else {**found, "usage": usage})

    def _fulfil(self, fate: str, body: bytes, tokens: tuple[int, int], found: dict[str, Any]) -> None:
        how = self.owner.behaviour
        answered = fate in ("answered", "without_usage")
        self.owner.charge(body, tokens, answered=answered)
        if how.seconds:
            time.sleep(how.seconds)
        if fate == "lost":
            self.close_connection = True
            return
        if fate == "slow":
            time.sleep(how.slow_seconds)
        if fate == "failed":
            self._answer(500, {"error": {"message": "internal error"}})
            return
        self._answer(200, found)

    def _answer(self, status: int, content: object, headers: Mapping[str, str] | None = None) -> None:
        self._send(status, json.dumps(content).encode(), headers)

    def _send(self, status: int, encoded: bytes, headers: Mapping[str, str] | None = None) -> None:
        try:
            self.send_response_only(status)
            for name, value in {**(headers or {}), "Content-Type": "application/json"}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(encoded)))
            self.end_headers()
            self.wfile.write(encoded)
            self.wfile.flush()
        except OSError:
            self.close_connection = True  # the client has gone


def main() -> None:
    """Serve until the process is ended."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--words", default="{}", help="JSON: a list of words by label")
    parser.add_argument("--behaviour", default="{}", help="JSON: fields of Behaviour")
    parser.add_argument("--url-file", type=Path, help="file that gets the URL once the stub listens")
    given = parser.parse_args()
    behaviour = Behaviour(**{"words": json.loads(given.words), **json.loads(given.behaviour)})
    stub = LanguageModelStub(behaviour, port=given.port)
    print(f"a stub of a language model, with no model behind it, listens on {stub.url}", flush=True)
    if given.url_file:
        given.url_file.write_text(stub.url)
    stub.server.serve_forever()


if __name__ == "__main__":
    main()
