"""Asking a real server on the loopback interface: budgets, faults, limits, and processes that are killed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from demo.servers.language_model import Behaviour, LanguageModelStub

from modelmill.errors import ConfigError, TransientError
from modelmill.language_models.asker import Ask, Asker, Tally
from modelmill.language_models.chat import ChatDialect
from modelmill.language_models.client import Client
from modelmill.language_models.dialects import DIALECTS, Parameters, Usage
from modelmill.language_models.endpoint import Endpoint
from modelmill.language_models.journal import Journal
from modelmill.language_models.prices import Prices, SpendingLimit, Tariff
from modelmill.language_models.questions import Question
from modelmill.language_models.rate_limits import RateLimits
from modelmill.language_models.systemone import SystemOneDialect

QUESTION = Question("topic", (("sport", "games"), ("trade", "")), instructions="Which desk?")
PARAMETERS = Parameters("stub-2026-11-01")
WORDS = {"sport": ["goal", "match"], "trade": ["bank", "loan"]}


def asks(count: int) -> Iterator[Ask]:
    for number in range(count):
        word = ("goal", "bank")[number % 2]
        yield Ask(ChatDialect().request(QUESTION, f"{word} {number}", PARAMETERS), (QUESTION,))


def run(
    url: str,
    folder: Path,
    *,
    count: int,
    budget: int = 10**9,
    key: str = "",
    timeout: float = 5,
    concurrency: int = 4,
    limits: tuple[int | None, int | None] = (None, None),
    attempts: int = 6,
) -> tuple[Tally, Journal]:
    tariff = Tariff.of(SpendingLimit(tokens=budget), None)
    with (
        Client(Endpoint(url, key), timeout=timeout, connections=concurrency) as client,
        Journal(folder, limit=tariff.limit) as journal,
    ):
        asker = Asker(
            client=client,
            dialect=ChatDialect(),
            parameters=PARAMETERS,
            journal=journal,
            limits=RateLimits(folder / "limits", requests=limits[0], tokens=limits[1]),
            tariff=tariff,
            concurrency=concurrency,
            attempts=attempts,
            pause=0.01,
        )
        return asker.ask(asks(count)), journal


def billed(stub: LanguageModelStub) -> int:
    return stub.bill.billed_input + stub.bill.billed_output


def labels(journal: Journal) -> dict[str, str | None]:
    return {key: answer["label"] for key, answer in journal.answers()}


def test_answers_are_asked_once_and_accounted_as_billed(tmp_path: Path) -> None:
    with LanguageModelStub(Behaviour(words=WORDS)) as stub:
        tally, journal = run(stub.url, tmp_path, count=20)
        assert tally.replies == {"answered": 20}
        assert journal.spent.accounted == billed(stub)
        assert sorted(str(label) for label in labels(journal).values()) == ["sport"] * 10 + ["trade"] * 10
        again, journal = run(stub.url, tmp_path, count=20)
        assert again.sent == 0
        assert stub.bill.requests == 20
        assert journal.spent.accounted == billed(stub)


def test_faults_cost_what_they_may_have_cost_and_no_answer_is_missing(tmp_path: Path) -> None:
    faults = Behaviour(
        words=WORDS, busy=0.1, lost=0.08, slow=0.02, slow_seconds=1.5, failed=0.05, without_usage=0.1, seed=3
    )
    with LanguageModelStub(faults) as stub:
        tally, journal = run(stub.url, tmp_path, count=150, timeout=1)
        spent = journal.spent
        assert len(labels(journal)) == 150
        assert tally.unanswered == {}
        assert tally.lost == spent.lost >= stub.bill.unanswered > 5
        # On a busy machine a refusal, too, may come too late.
        assert 5 < tally.busy <= stub.bill.busy
        assert tally.without_usage > 5
        assert billed(stub) < spent.accounted
        assert sum(stub.bill.contents.values()) - 150 <= spent.lost


@pytest.mark.parametrize("budget", [1, 5_000, 20_000])
def test_a_budget_holds_and_is_used(tmp_path: Path, budget: int) -> None:
    with LanguageModelStub(Behaviour(words=WORDS, lost=0.05, without_usage=0.05)) as stub:
        tally, journal = run(stub.url, tmp_path, count=100, budget=budget)
        spent = journal.spent
        assert billed(stub) <= spent.accounted <= budget
        assert set(tally.unanswered.values()) == {"budget"}
        assert len(labels(journal)) + len(tally.unanswered) == 100
        worst = max(ChatDialect().worst_case(ask.request, PARAMETERS).total for ask in asks(100))
        assert spent.accounted > budget - worst
        assert spent.reserved == 0


def test_money_is_exact() -> None:
    tariff = Tariff.of(SpendingLimit(money=0.1), Prices(input_per_million=0.1, output_per_million=0.3))
    assert (tariff.limit, tariff.input_units, tariff.output_units) == (10**11, 10**5, 3 * 10**5)
    assert tariff.shown(tariff.limit) == 0.1
    with pytest.raises(ValueError, match="needs prices"):
        Tariff.of(SpendingLimit(money=1), None)
    with pytest.raises(ValueError, match="either money or tokens"):
        SpendingLimit(money=1, tokens=1)
    with pytest.raises(ValueError, match="finite number"):
        SpendingLimit(money=float("inf"))


def test_a_server_that_is_not_there_is_given_up_and_costs_nothing(tmp_path: Path) -> None:
    with LanguageModelStub() as stub:
        url = stub.url
    with pytest.raises(TransientError, match="must answer"):
        run(url, tmp_path, count=30)
    with Journal(tmp_path, limit=10) as journal:
        assert journal.spent.accounted == 0


def test_a_refused_key_is_said_without_showing_it(tmp_path: Path) -> None:
    with LanguageModelStub(Behaviour(key="right")) as stub:
        with pytest.raises(ConfigError, match="must take the key") as found:
            run(stub.url, tmp_path, count=3, key="canary-key")
        assert "Incorrect API key" in str(found.value)
        assert "canary-key" not in str(found.value)


def test_limits_a_minute_are_kept_over_restarts_and_used(tmp_path: Path) -> None:
    limit = 1_200  # 20 a second
    with LanguageModelStub(Behaviour(words=WORDS)) as stub:
        for count in (40, 80):
            tally, _ = run(stub.url, tmp_path, count=count, limits=(limit, None), concurrency=8)
            assert tally.busy == 0
        times = sorted(stub.bill.times)
    # benchmarks/language_models.py measures how much of a limit is used, over minutes: above 90 %.
    rate = (len(times) - 1) / (times[-1] - times[0])
    assert rate > 0.5 * limit / 60
    for seconds in (1.0, 2.0):
        most = max(sum(start <= at < start + seconds for at in times) for start in times)
        # A thread that woke late may catch up on one second.
        assert most <= (seconds + 2) * limit / 60


class BusyOnce(LanguageModelStub):
    """Refuses the first request."""

    def fate(self) -> str:
        return "busy" if not self.bill.busy else "answered"


def test_after_a_pause_the_limit_is_kept(tmp_path: Path) -> None:
    limit = 600  # 10 a second
    with BusyOnce(Behaviour(words=WORDS, retry_after=2.5)) as stub:
        run(stub.url, tmp_path, count=50, limits=(limit, None), concurrency=32)
        times = sorted(stub.bill.times)
    # Two may have been on their way for long: the machine is busy.
    assert sum(1.2 <= at - times[0] < 2.4 for at in times) <= 2, "nothing goes during the pause"
    most = max(sum(start <= at < start + 0.5 for at in times) for start in times)
    # The places of 21 that waited are past. A thread that woke late may catch up on 1.5 seconds.
    assert most <= (0.5 + 1.5) * limit / 60


def test_tokens_a_minute_are_kept(tmp_path: Path) -> None:
    with LanguageModelStub(Behaviour(words=WORDS)) as stub:
        run(stub.url, tmp_path / "a", count=40)
        each = billed(stub) / 40
        stub.bill.times.clear()
        limit = round(each * 600)  # ten requests a second
        run(stub.url, tmp_path / "b", count=40, limits=(None, limit), concurrency=8)
        times = sorted(stub.bill.times)
    # The first requests are estimated before anything is known of their tokens.
    rate = 20 / (times[-1] - times[-21])
    assert 4 < rate < 11.5


def test_a_clock_that_was_set_back_does_not_stop_everything(tmp_path: Path) -> None:
    now = [1_000_000.0]
    limits = RateLimits(tmp_path / "limits", requests=60, tokens=None, clock=lambda: now[0])
    assert limits.take(10)[0] == 0
    now[0] -= 100_000
    assert limits.take(10)[0] <= 125
    limits.pause(5)
    assert limits.paused() == 5


WORKER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[4])
from test_asker import run
tally, journal = run(sys.argv[1], Path(sys.argv[2]), count=int(sys.argv[3]), timeout=1, attempts=9,
                     budget=int(sys.argv[5]))
"""


def start(url: str, folder: Path, count: int, budget: int) -> subprocess.Popen[bytes]:
    arguments = [url, str(folder), str(count), str(Path(__file__).parent), str(budget)]
    return subprocess.Popen([sys.executable, "-c", WORKER, *arguments], stderr=subprocess.PIPE)


def test_killed_and_racing_processes_stay_within_the_budget(tmp_path: Path) -> None:
    faults = Behaviour(words=WORDS, busy=0.08, lost=0.04, without_usage=0.05, seconds=0.02, seed=5)
    count, kills = 100, 3
    with LanguageModelStub(faults) as stub:
        for number in range(kills):
            before = stub.bill.billed
            worker = start(stub.url, tmp_path, count, 10**9)
            while stub.bill.billed < before + 10 + 5 * number and worker.poll() is None:
                time.sleep(0.005)
            os.kill(worker.pid, signal.SIGKILL)
            worker.communicate()
        racers = [start(stub.url, tmp_path, count, 10**9) for _ in range(2)]
        for racer in racers:
            _, said = racer.communicate(timeout=60)
            assert racer.returncode == 0, said.decode()
        with Journal(tmp_path, limit=10**9) as journal:
            spent = journal.spent
            found = labels(journal)
        assert len(found) == count
        assert billed(stub) <= spent.accounted
        asked_again = sum(stub.bill.contents.values()) - len(stub.bill.contents)
        assert asked_again <= spent.lost + kills * 4
        assert spent.orphans <= kills * 4
        clean = run(stub.url, tmp_path / "clean", count=count, attempts=9)[1]
        assert labels(clean) == found


def test_a_line_that_was_not_finished_says_nothing(tmp_path: Path) -> None:
    with Journal(tmp_path, limit=100) as journal:
        first, second = journal.reserve("a", 10), journal.reserve("b", 20)
        assert not isinstance(first, str)
        assert not isinstance(second, str)
        journal.settle(first, "answered", cost=7, answer={"label": "x"})
        assert journal.reserve("a", 1) == "known"
        assert journal.reserve("b", 1) == "in_flight"
        assert journal.reserve("c", 80) == "wait"
    path = tmp_path / "journal.jsonl"
    path.write_bytes(path.read_bytes() + b'{"s":"' + second.id.encode() + b'","h":"answered","c":1')
    with Journal(tmp_path, limit=100) as journal:
        assert (journal.spent.settled, journal.spent.reserved, journal.spent.orphans) == (7, 20, 1)
        assert journal.reserve("c", 74) == "exhausted"
        again = journal.reserve("b", 73)
        assert not isinstance(again, str)
        journal.settle(again, "answered", cost=1, answer={"label": "y"})
        assert journal.spent.accounted == 28
    lines = path.read_bytes().split(b"\n")
    assert sum(line != b"" for line in lines) == 6
    with Journal(tmp_path, limit=100) as journal:
        assert dict(journal.answers()) == {"a": {"label": "x"}, "b": {"label": "y"}}


def test_transformers_reads_the_questions_of_a_typed_decision() -> None:
    from transformers.decision import DecisionConfig, parse_questions

    body = json.loads(SystemOneDialect().request(QUESTION, "goal", PARAMETERS).body)
    (asked,) = parse_questions(body["questions"], DecisionConfig())
    assert asked.options == ["sport", "trade", "cannot tell"]
    answer = asked.answer([0.2, 0.7, 0.1])
    found = json.dumps(
        {"model": "m", "answers": {"topic": answer}, "usage": {"input_tokens": 9, "output_tokens": 0}}
    )
    reply = SystemOneDialect().reply(QUESTION, found.encode())
    assert (reply.status, reply.label, reply.usage) == ("answered", "trade", Usage(9, 0))
    assert reply.probabilities == {"sport": 0.2, "trade": 0.7, "cannot tell": 0.1}


@pytest.mark.parametrize(
    "probabilities",
    [
        None,
        {},
        {"sport": 1.0},
        {"sport": 0.9, "trade": 0.9, "cannot tell": 0},
        {"sport": 2, "trade": -1, "cannot tell": 0},
    ],
)
def test_probabilities_that_are_none_are_no_answer(probabilities: object) -> None:
    body = json.dumps({"answers": {"topic": {"probabilities": probabilities}}}).encode()
    assert SystemOneDialect().reply(QUESTION, body).status == "invalid"


@pytest.mark.parametrize(
    ("message", "status"),
    [
        ({"content": '{"label": "sport"}'}, "answered"),
        ({"content": '{"label": "cannot tell"}'}, "answered"),
        ({"content": '{"label": "HACKED"}'}, "invalid"),
        ({"content": "sport"}, "invalid"),
        ({"content": None}, "invalid"),
        ({"refusal": "I cannot help with that"}, "refused"),
    ],
)
def test_only_options_are_answers(message: dict[str, object], status: str) -> None:
    body = json.dumps({"choices": [{"message": message}]}).encode()
    reply = ChatDialect().reply(QUESTION, body)
    assert reply.status == status
    assert reply.label in ("sport", None)
    assert reply.usage is None


def test_decisions_may_be_refused_and_have_one_probability_for_each_value() -> None:
    dialect = DIALECTS.load("decisions")()
    values = [{"value": "sport", "probability": 0.9}, {"value": "trade", "probability": 0.1}]
    last = {"value": "cannot tell", "probability": 0}
    for answer, status in [
        ({"type": "choice", "probabilities": [*values, last]}, "answered"),
        ({"type": "choice", "probabilities": values}, "invalid"),
        ({"type": "choice", "probabilities": [*values, last, last]}, "invalid"),
        ({"type": "choice", "probabilities": {"sport": 1}}, "invalid"),
        ({"type": "refusal", "name": "topic"}, "refused"),
    ]:
        usage = {"input_tokens": 7, "output_tokens": 0}
        reply = dialect.reply(QUESTION, json.dumps({"answers": [answer], "usage": usage}).encode())
        assert reply.status == status
        assert reply.label == ("sport" if status == "answered" else None)


@pytest.mark.parametrize("name", ["chat", "systemone", "decisions"])
def test_an_answer_that_is_nested_too_deep_is_none(name: str) -> None:
    body = b"[" * 200_000
    assert DIALECTS.load(name)().reply(QUESTION, body).status == "invalid"


@pytest.mark.parametrize(
    ("url", "key", "said"),
    [
        ("http://[::1/v1", "", "is an http or https URL"),
        ("http://h/v1", "k\u00e9y", "one line of ASCII"),
        ("http://h/v1", "one\ntwo", "one line of ASCII"),
    ],
)
def test_an_endpoint_that_cannot_be_asked_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, url: str, key: str, said: str
) -> None:
    monkeypatch.setenv("MODELMILL_LLM_URL", url)
    monkeypatch.setenv("MODELMILL_LLM_KEY", key)
    with pytest.raises(ConfigError, match=said) as found:
        Endpoint.from_environment()
    assert not key or key not in str(found.value)


@pytest.mark.parametrize("page", [b"<html>we are back soon</html>", b'{"error": {"message": "overloaded"}}'])
def test_a_page_instead_of_an_answer_is_asked_again_and_not_kept(tmp_path: Path, page: bytes) -> None:
    class Page(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_response(200)
            self.send_header("content-length", str(len(page)))
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}/v1"
        tally, journal = run(url, tmp_path, count=3, attempts=2, concurrency=1)
        server.shutdown()
    assert (tally.sent, tally.lost, set(tally.unanswered.values())) == (6, 6, {"lost"})
    assert list(journal.answers()) == []


@pytest.mark.parametrize(("size", "pause"), [(40, 0.1), (9_000_000, 0.0)])
def test_an_answer_that_does_not_end_is_lost(size: int, pause: float) -> None:
    class Endless(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_response(200)
            self.end_headers()
            with contextlib.suppress(OSError):
                for _ in range(40):
                    self.wfile.write(b" " * (size // 40))
                    time.sleep(pause)
                self.wfile.write(b"{}")

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Endless) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        endpoint, began = Endpoint(f"http://127.0.0.1:{server.server_address[1]}/v1"), time.monotonic()
        with Client(endpoint, timeout=1, connections=1) as client:
            assert client.send(next(asks(1)).request).kind == "lost"
        assert time.monotonic() - began < 3
        server.shutdown()


@pytest.mark.parametrize("where", ["headers", "body"])
def test_a_server_that_dribbles_holds_nobody(where: str) -> None:
    """A byte now and then keeps each single read within its time: the request as a whole has one, too."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2000\r\n"
    answers = [b'HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n{"a": [12]}']  # the first one is whole
    stop = threading.Event()

    def serve(server: socket.socket) -> None:
        with server.accept()[0] as peer, contextlib.suppress(OSError):
            while peer.recv(65_536):
                if answers:
                    peer.sendall(answers.pop())
                    continue
                peer.sendall(head + (b"X-Slow: " if where == "headers" else b"\r\n"))
                while not stop.wait(0.1):
                    peer.sendall(b"x")
                return

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve, args=(server,), daemon=True)
        thread.start()
        endpoint = Endpoint(f"http://127.0.0.1:{server.getsockname()[1]}/v1")
        with Client(endpoint, timeout=1, connections=1) as client:
            request = next(asks(1)).request
            assert client.send(request).kind == "answered"
            began = time.monotonic()
            outcome = client.send(request)  # over the same connection
            assert time.monotonic() - began < 60, "without an end of its own it takes minutes"
            assert (outcome.kind, outcome.detail) == ("lost", "no end within 1 s")
        stop.set()
        thread.join(5)


def test_a_thread_that_outlives_its_step_writes_nowhere(tmp_path: Path) -> None:
    with Journal(tmp_path, limit=100) as journal, RateLimits(tmp_path / "l", requests=9, tokens=9) as limits:
        reservation = journal.reserve("a", 10)
    assert not isinstance(reservation, str)
    other = os.open(tmp_path / "another-file", os.O_RDWR | os.O_CREAT)  # gets the number of a closed one
    with pytest.raises(ValueError, match="journal is closed"):
        journal.settle(reservation, "answered", cost=1, answer={"label": "x"})
    with pytest.raises(ValueError, match="limits are closed"):
        limits.take(1)
    os.close(other)
    assert (tmp_path / "another-file").read_bytes() == b""
    with Journal(tmp_path, limit=100) as journal:
        assert (journal.spent.reserved, journal.spent.orphans) == (10, 1)
