"""Requests that an endpoint does not take, or that do not fit: rows fail by name, and no answer is lost."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import write_deltalake
from demo.servers.language_model import Behaviour, LanguageModelStub
from tests.library.language_models.test_asker import PARAMETERS, QUESTION, WORDS

from modelmill.artifacts import TableRef
from modelmill.component import StepContext
from modelmill.errors import ConfigError, TransientError, WaitingError
from modelmill.language_models.asker import Ask, Asker
from modelmill.language_models.chat import ChatDialect
from modelmill.language_models.client import Client
from modelmill.language_models.endpoint import Endpoint
from modelmill.language_models.journal import Journal
from modelmill.language_models.prices import SpendingLimit, Tariff
from modelmill.language_models.rate_limits import RateLimits
from modelmill.steps.label_by_llm import LabelByLlmOutputs
from modelmill.tables.reading import read_arrow

Label = Callable[..., LabelByLlmOutputs]
Stub = Callable[..., LanguageModelStub]

ASKING = {"model": "stub-2026-11-01", "concurrency": 4}
IN_BATCHES = {**ASKING, "batch": {"poll_seconds": 1}}


def report(context: StepContext) -> dict[str, Any]:
    path = context.run.client.download_artifacts(context.run.run_id, "labels.json")
    return dict(json.loads(Path(path).read_text()))


def finished(label: Label, table: TableRef, **changes: Any) -> LabelByLlmOutputs:
    """Run a step again as long as it waits."""
    for _ in range(9):
        with contextlib.suppress(WaitingError):
            return label(table, **changes)
    raise AssertionError("it waits for ever")


@pytest.mark.parametrize("asking", [ASKING, IN_BATCHES], ids=["alone", "in batches"])
def test_an_endpoint_that_took_nothing_costs_no_row_its_answer(
    news: TableRef, stub: Stub, label: Label, step_context: StepContext, asking: dict[str, Any]
) -> None:
    stub(refused=1.0)  # somebody has started the server without the schema, say
    with pytest.raises(ConfigError, match="the request is not taken"):
        finished(label, news, asking=asking)
    server = stub()
    finished(label, news, asking=asking)
    assert report(step_context)["failed"] == {}
    assert server.bill.billed == 60


def test_refusals_that_come_before_the_first_answer_are_those_of_their_rows(
    news: TableRef, stub: Stub, label: Label, step_context: StepContext
) -> None:
    server = stub(refused=0.6, seconds=0.5)  # an answer takes longer than a refusal
    label(news, asking=ASKING, pilot_rows=60)
    refused = report(step_context)["failed"]["refused"]
    assert 20 < refused < 60
    assert server.bill.billed == 60 - refused
    asked = server.bill.requests
    again = replace(step_context, step_key="1" * 64, workdir=step_context.workdir / "second")
    label(news, again, asking=ASKING, pilot_rows=60)
    assert server.bill.requests == asked  # what was refused is known, too


def long_row(tmp_path: Path, news: TableRef, words: int) -> TableRef:
    """The same table, whose row 7 is longer."""
    rows = read_arrow(news).to_pylist()
    rows[7]["body"] += " the" * words
    write_deltalake(str(tmp_path / "with_long"), pa.Table.from_pylist(rows))
    return TableRef(uri=str(tmp_path / "with_long"), version=0)


def test_a_row_that_a_minute_has_no_room_for_fails_by_name_and_the_others_go_on(
    tmp_path: Path, news: TableRef, stub: Stub, label: Label, step_context: StepContext
) -> None:
    server, said = stub(), list[str]()
    asking = {**ASKING, "tokens_per_minute": 100_000}
    table = long_row(tmp_path, news, 200_000)
    found = label(table, replace(step_context, log=said.append), asking=asking)
    assert report(step_context)["failed"] == {"too long": 1}
    labels = read_arrow(found.table).column("topic").to_pylist()
    assert [number for number, one in enumerate(labels) if one is None] == [7]
    (row,) = read_arrow(found.disagreements).to_pylist()
    assert (row["id"], row["topic_reason"]) == (7, "failed")
    (line,) = [line for line in said if "tokens_per_minute" in line]
    assert "1 request needs more tokens than a minute has" in line
    assert "row 7" in line
    assert server.bill.billed == 59


def test_a_minute_that_has_room_for_no_row_ends_the_step(news: TableRef, stub: Stub, label: Label) -> None:
    server = stub()
    with pytest.raises(ConfigError, match=r"must fit into the tokens of a minute.*raise tokens_per_minute"):
        label(news, asking={**ASKING, "tokens_per_minute": 20})
    assert server.bill.requests == 0


@pytest.mark.parametrize("most", [59, 0])
def test_a_request_that_is_told_to_come_later_for_ever_holds_nobody(tmp_path: Path, most: int) -> None:
    """An endpoint may say 429 to what is larger than its limit, now and whenever it comes."""
    asks = []
    for number in range(60):
        text = f"{('goal', 'bank')[number % 2]} {number}" + " the" * (4_000 if number == 3 else 0)
        asks.append(Ask(ChatDialect().request(QUESTION, text, PARAMETERS), (QUESTION,)))
    behaviour = Behaviour(words=WORDS, most_tokens=2_000 if most else 1, retry_after=0.1)
    began = time.monotonic()
    with (
        LanguageModelStub(behaviour) as stub,
        Client(Endpoint(stub.url), timeout=5, connections=4) as client,
        Journal(tmp_path, limit=10**9) as journal,
        RateLimits(tmp_path / "limits", requests=None, tokens=None) as limits,
    ):
        asker = Asker(
            client=client,
            dialect=ChatDialect(),
            parameters=PARAMETERS,
            journal=journal,
            limits=limits,
            tariff=Tariff.of(SpendingLimit(tokens=10**9), None),
            concurrency=4,
            patience=6.0,
        )
        if not most:
            with pytest.raises(TransientError, match="must answer"):
                asker.ask(asks)
            return
        tally = asker.ask(asks)
        assert tally.unanswered == {asks[3].request.key: "lost"}
        assert len(list(journal.answers())) == most
        again = asker.ask(asks)  # with nothing else to ask
        assert again.unanswered == tally.unanswered
    assert time.monotonic() - began < 25


def test_a_batch_that_is_listed_late_after_a_long_upload_is_made_once(
    news: TableRef, stub: Stub, label: Label, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modelmill.language_models.batches._LISTED_SECONDS", 1.0)
    server = stub(batch_reply_lost=1, upload_seconds=1.2, listed_seconds=0.6)
    with pytest.raises(TransientError, match="must answer"):
        label(news, asking=IN_BATCHES)
    finished(label, news, asking=IN_BATCHES)
    assert set(server.bill.contents.values()) == {1}
    assert len(server.batches.batches) == 2  # the pilot, and the rest


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"max_tokens": None, "max_completion_tokens": 2_000}, "max_completion_tokens is 2000, and 64"),
        ({"n": 3}, "n is 3, and 1 is reserved; one answer is used"),
    ],
)
def test_an_answer_that_may_cost_more_than_is_reserved_is_refused_before_it_is_asked(
    news: TableRef, stub: Stub, label: Label, body: dict[str, Any], said: str
) -> None:
    server = stub()
    with pytest.raises(ValueError, match=said):
        label(news, asking={**ASKING, "body": body})
    assert server.bill.requests == 0
    label(news, asking={**ASKING, "body": {"max_tokens": None, "max_completion_tokens": 64, "n": 1}})
    assert server.bill.billed == 60
