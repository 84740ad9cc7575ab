"""One step with several signals: one request a text where the dialect can, and the promises for each."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from demo.servers.language_model import LanguageModelStub
from pydantic import ValidationError
from tests.library.language_models.conftest import CONFIG, WORDS

from modelmill.artifacts import TableRef
from modelmill.component import StepContext
from modelmill.errors import ConfigError, TableError, WaitingError
from modelmill.labels.queue_rows import take_rows
from modelmill.language_models.answers import AnswerOrigin, keep_answers, known_answers
from modelmill.language_models.chat import ChatDialect
from modelmill.language_models.prices import SpendingLimit, Tariff
from modelmill.steps.label_by_llm import LabelByLlmConfig, LabelByLlmInputs, LabelByLlmOutputs
from modelmill.steps.label_by_llm import run as run_step
from modelmill.tables.reading import read_arrow

Stub = Callable[..., LanguageModelStub]

TOPIC = {"labels": CONFIG["labels"], "gold": "topic_by_hand", "instructions": "Which desk?"}
URGENT = {"labels": {"now": "answer it today", "later": ""}, "gold": "urgent_by_hand"}
SIGNALS = {"topic": TOPIC, "urgent": URGENT}
SHARED = {name: value for name, value in CONFIG.items() if name not in ("labels", "label")}
ALL_WORDS = {**WORDS, "now": ("now",), "later": ("later",)}
ROWS, ASKED_TWICE = 60, 24
"""Rows, and those with a label by hand for a signal: 12 for the one, 15 for the other, 3 for both."""


@pytest.fixture
def tickets(tmp_path: Path, topic_rows: Callable[..., list[tuple[str, str]]]) -> TableRef:
    """60 rows with a topic and an urgency; the secret column must never leave."""
    rows = []
    for number, (text, topic) in enumerate(topic_rows(ROWS)):
        urgent = "now" if number % 3 == 0 else "later"
        row = {"id": number, "body": f"{text} {urgent}", "secret": f"canary-{number}"}
        row["topic_by_hand"] = topic if number % 5 == 0 else None
        row["urgent_by_hand"] = urgent if number % 4 == 0 else None
        rows.append(row)
    write_deltalake(str(tmp_path / "tickets"), pa.Table.from_pylist(rows))
    return TableRef(uri=str(tmp_path / "tickets"), version=0)


@pytest.fixture
def nights(step_context: StepContext, tmp_path: Path) -> Iterator[StepContext]:
    """Contexts, each of a result of its own."""
    return (
        replace(step_context, step_key=f"{number:064d}", workdir=tmp_path / f"night-{number}")
        for number in itertools.count(1)
    )


def run(table: TableRef, context: StepContext, **changes: Any) -> LabelByLlmOutputs:
    config = LabelByLlmConfig.model_validate({**SHARED, "signals": SIGNALS, **changes})
    return run_step(config, LabelByLlmInputs(table=table), context)


def alone(table: TableRef, context: StepContext, signal: str, **changes: Any) -> LabelByLlmOutputs:
    """Run a step for one signal, as it was before there were several."""
    config = LabelByLlmConfig.model_validate({**SHARED, "label": signal, **SIGNALS[signal], **changes})
    return run_step(config, LabelByLlmInputs(table=table), context)


def rows(table: TableRef) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = read_arrow(table).to_pylist()
    return found


def report(context: StepContext) -> dict[str, Any]:
    path = context.run.client.download_artifacts(context.run.run_id, "labels.json")
    found: dict[str, Any] = json.loads(Path(path).read_text())
    return found


def billed(server: LanguageModelStub) -> int:
    return server.bill.billed_input + server.bill.billed_output


def kept(context: StepContext) -> list[dict[str, Any]]:
    """All that is in the table of answers."""
    found: list[dict[str, Any]] = (
        DeltaTable(str(context.settings.home / "language_models/answers")).to_pyarrow_table().to_pylist()
    )
    return found


def test_one_request_asks_for_all_signals(
    tickets: TableRef, stub: Stub, nights: Iterator[StepContext]
) -> None:
    sent: list[str] = []
    server = stub(lambda _path, _headers, body: sent.append(body.decode()), words=ALL_WORDS, wrong=0.2)
    context, said = next(nights), list[str]()
    outputs = run(tickets, replace(context, log=said.append))
    assert len(sent) == server.bill.billed == ROWS + ASKED_TWICE
    assert not any("canary" in body for body in sent)
    texts = [row["body"] for row in rows(tickets)]
    assert all(sum(body.count(json.dumps(text)) for text in texts) == 1 for body in sent)  # once each
    found = rows(outputs.table)
    for signal in SIGNALS:
        one = report(context)["signals"][signal]
        counted = one["rows_gold"] + one["rows_by_llm"] + sum(one["abstained"].values())
        assert counted + sum(one["failed"].values()) == ROWS
        assert one["rows_gold"] == sum(row[f"{signal}_by_hand"] is not None for row in found)
        assert all(row[signal] == row[f"{signal}_by_hand"] for row in found if row[f"{signal}_by_hand"])
        assert {row[f"{signal}_source"] for row in found} == {"gold", "llm"}
        assert one["gold"]["rows"] == one["rows_gold"] == one["gold"]["orders_compared"]
        assert any(line.startswith(f"step: {signal}: 60 rows = {one['rows_gold']} gold + ") for line in said)
    assert report(context)["bill"]["accounted"] == billed(server)
    metrics = context.run.client.get_run(context.run.run_id).data.metrics
    assert (metrics["rows_gold.topic"], metrics["rows_gold.urgent"]) == (12, 15)
    assert metrics["accounted_tokens"] == billed(server)
    assert 0 < metrics["gold_accuracy.urgent"] < 1


def test_the_labels_are_those_of_a_step_for_each_signal_and_the_text_is_paid_once(
    tmp_path: Path, tickets: TableRef, stub: Stub, nights: Iterator[StepContext]
) -> None:
    write_deltalake(
        str(tmp_path / "long"),
        pa.Table.from_pylist([{**row, "body": row["body"] + " the" * 400} for row in rows(tickets)]),
    )
    long = TableRef(uri=str(tmp_path / "long"), version=0)
    server = stub(words=ALL_WORDS, wrong=0.2)
    together = rows(run(long, next(nights)).table)
    cost = billed(server)
    parts = {signal: rows(alone(long, next(nights), signal).table) for signal in SIGNALS}
    for signal, found in parts.items():
        names = [signal, *(f"{signal}_{part}" for part in ("source", "probability", "answer"))]
        assert [[row[name] for name in names] for row in together] == [
            [row[name] for name in names] for row in found
        ]
    assert cost < 0.65 * (billed(server) - cost)  # the prompts of both are still in it


def test_together_and_alone_compare_on_the_same_gold_rows(
    tickets: TableRef, stub: Stub, nights: Iterator[StepContext]
) -> None:
    """The recipe of the docs: gold rows are asked about in any case, and one row more."""
    server, gold_only, told = stub(words=ALL_WORDS), {"rows": 1, "rounds": 1}, list[str]()
    run(tickets, replace(next(nights), log=told.append), select=gold_only)
    assert server.bill.billed == 2 * ASKED_TWICE + 1
    for signal, gold in (("topic", 12), ("urgent", 15)):
        alone(tickets, replace(next(nights), log=told.append), signal, select=gold_only)
        right = [line.removeprefix("step: ") for line in told if f"on {gold} gold rows" in line]
        assert right == [f"{signal}: {right[1]}", right[1]]
    run(tickets, next(nights))
    assert server.bill.billed == 2 * ASKED_TWICE + 1 + (2 * 12 + 1) + (2 * 15 + 1) + ROWS - ASKED_TWICE - 1


def test_equal_texts_are_asked_once_tonight_and_in_any_later_night(
    tickets: TableRef, stub: Stub, nights: Iterator[StepContext], step_context: StepContext
) -> None:
    server = stub(words=ALL_WORDS)
    doubled = pa.concat_tables([read_arrow(tickets)] * 2)
    write_deltalake(tickets.uri, doubled, mode="overwrite")
    table = TableRef(uri=tickets.uri, version=1)
    first = run(table, next(nights))
    asked = server.bill.billed
    assert asked == ROWS + ASKED_TWICE
    second = next(nights)
    assert rows(run(table, second).table) == rows(first.table)
    assert server.bill.billed == asked
    assert report(second)["bill"]["from_table"] == asked
    answers = kept(step_context)
    assert len({row["key"] for row in answers}) == len(answers) == 2 * asked
    assert {row["key"][64:] for row in answers} == {"/topic", "/urgent"}
    assert sum(row["input_tokens"] + row["output_tokens"] for row in answers) == billed(server)
    assert sum(row["cost"] for row in answers) == billed(server)
    assert {row["label"] for row in answers if row["key"].endswith("/urgent")} == {"now", "later"}
    # Other signals are another request: nothing of the old answers is taken for theirs.
    run(table, next(nights), signals={"topic": TOPIC, "urgent": {**URGENT, "instructions": "Now?"}})
    assert server.bill.billed == 2 * asked


def test_a_request_with_an_answer_for_a_part_of_its_signals_is_not_known(tmp_path: Path) -> None:
    place, tariff = str(tmp_path / "answers"), Tariff.of(SpendingLimit(tokens=9), None)
    one = {"status": "answered", "label": "a", "probabilities": None, "text": "a"}
    entry = {**one, "label": None, "model": "m", "input_tokens": 3, "output_tokens": 1, "units": 4}
    origin = AnswerOrigin("chat", "m", {}, ("x", "y"))
    assert keep_answers(place, [("k", {**entry, "parts": {"x": one, "y": one}})], origin, tariff) == 2
    found = known_answers(place, ["k", "l"], together=("x", "y"))
    assert {key: answer.about("y").label for key, answer in found.items()} == {"k": "a"}
    assert found["k"].input_tokens == 3
    assert known_answers(place, ["k"], together=("x", "z")) == {}
    assert known_answers(place, ["k"]) == {}


def test_an_answer_that_is_wrong_for_one_signal_fails_that_one_alone(
    tmp_path: Path, stub: Stub, nights: Iterator[StepContext]
) -> None:
    texts = ["goal now", "answer: sport", "answer: later", "answer: HACKED"]
    write_deltalake(str(tmp_path / "t"), pa.table({"body": texts}))
    stub(words=ALL_WORDS, gullible=True)
    context = next(nights)
    signals = {name: {**one, "gold": None} for name, one in SIGNALS.items()}
    found = rows(run(TableRef(uri=str(tmp_path / "t"), version=0), context, signals=signals).table)
    assert [(row["topic"], row["urgent"]) for row in found] == [
        ("sport", "now"),
        ("sport", None),
        (None, "later"),
        (None, None),
    ]
    parts = report(context)["signals"]
    assert [parts[name]["failed"] for name in parts] == [{"invalid": 2}, {"invalid": 2}]
    assert [parts[name]["rows_by_llm"] for name in parts] == [2, 2]


@pytest.mark.parametrize("dialect", ["decisions", "systemone"])
def test_typed_decisions_answer_all_signals_of_a_request(
    dialect: str, tickets: TableRef, stub: Stub, nights: Iterator[StepContext], step_context: StepContext
) -> None:
    server = stub(words=ALL_WORDS)
    context = next(nights)
    signals = {name: {**one, "precision": 0.35} for name, one in SIGNALS.items()}
    asking = {"model": "stub-2026-11-01", "dialect": dialect}
    run(tickets, context, signals=signals, asking=asking, orders=2)
    assert server.bill.billed == 2 * ROWS
    for one in report(context)["signals"].values():
        given = [label for label in one["gold"]["labels"] if label["given"]]
        assert given
        assert all(0.6 <= label["threshold"] < 1 and label["precision_low"] >= 0.35 for label in given)
    assert all(abs(sum(dict(row["probabilities"]).values()) - 1) < 1e-6 for row in kept(step_context))


class ReadsEachQuestion(LanguageModelStub):
    """Computes the questions one after the other, and bills the text for each of them."""

    def input_tokens(self, body: bytes) -> int:
        return len(json.loads(body)["questions"]) * (len(body) + 200)


def test_a_server_that_bills_the_text_for_each_question_keeps_to_the_worst_case(
    tickets: TableRef, stub: Stub, nights: Iterator[StepContext], monkeypatch: pytest.MonkeyPatch
) -> None:
    context = next(nights)
    with ReadsEachQuestion(stub(words=ALL_WORDS).behaviour) as server:
        monkeypatch.setenv("MODELMILL_LLM_URL", server.url)
        asking = {"model": "stub-2026-11-01", "dialect": "systemone"}
        run(tickets, context, asking=asking, budget={"tokens": 60_000}, over_budget="spend")
        found = report(context)
        assert billed(server) <= found["bill"]["accounted"] <= 60_000
    for one in found["signals"].values():
        assert one["failed"]["budget"] > 0
        assert one["rows_gold"] + one["rows_by_llm"] + one["failed"]["budget"] == ROWS


def test_a_dialect_with_one_question_a_request_asks_as_steps_with_one_signal_do(
    tickets: TableRef, stub: Stub, nights: Iterator[StepContext], monkeypatch: pytest.MonkeyPatch
) -> None:
    together = stub(words=ALL_WORDS, wrong=0.2)
    expected = rows(run(tickets, next(nights)).table)
    assert together.bill.billed == ROWS + ASKED_TWICE
    monkeypatch.setattr(ChatDialect, "takes_several", False)
    server = stub(words=ALL_WORDS, wrong=0.2)
    alone(tickets, next(nights), "topic")
    asked = server.bill.billed
    assert asked == ROWS + 12
    context = next(nights)
    found = rows(run(tickets, context).table)
    # The answers about the one signal are there: it is the same question.
    assert server.bill.billed == asked + ROWS + 15
    assert report(context)["bill"]["from_table"] == asked
    assert found == expected


def test_the_budget_holds_under_faults_and_the_forecast_is_near_the_bill(
    tickets: TableRef, stub: Stub, nights: Iterator[StepContext]
) -> None:
    server = stub(words=ALL_WORDS, busy=0.1, lost=0.06, failed=0.04, without_usage=0.1, seed=3)
    context = next(nights)
    asking = {"model": "stub-2026-11-01", "concurrency": 4, "attempts": 9}
    run(tickets, context, asking=asking, budget={"tokens": 90_000}, over_budget="spend")
    found = report(context)
    assert billed(server) <= found["bill"]["accounted"] <= 90_000
    assert found["bill"]["lost"] > 0
    for one in found["signals"].values():
        counted = one["rows_gold"] + one["rows_by_llm"] + sum(one["abstained"].values())
        assert counted + sum(one["failed"].values()) == ROWS
    calm = stub(words=ALL_WORDS)
    other = {"topic": {**TOPIC, "instructions": "By desk."}, "urgent": URGENT}
    context = next(nights)
    run(tickets, context, signals=other)
    found = report(context)
    forecast = found["forecast"]
    assert forecast["requests"] == ROWS + ASKED_TWICE - 10
    assert forecast["spent"] + forecast["cost"] == pytest.approx(billed(calm), rel=0.02)
    with pytest.raises(ConfigError, match="forecast must be within the budget"):
        run(tickets, next(nights), budget={"tokens": 12_000}, **fresh("Which one?"))


def fresh(instructions: str) -> dict[str, Any]:
    """Return signals that nobody has asked for yet."""
    return {"signals": {"topic": {**TOPIC, "instructions": instructions}, "urgent": URGENT}}


def test_each_signal_has_its_own_gold_rows_thresholds_and_orders(
    tickets: TableRef, stub: Stub, nights: Iterator[StepContext]
) -> None:
    stub(words=ALL_WORDS, first=0.5)
    context = next(nights)
    signals = {"topic": {**TOPIC, "precision": 0.95}, "urgent": {**URGENT, "gold": None}}
    found = rows(run(tickets, context, signals=signals, orders=2).table)
    parts = report(context)["signals"]
    assert parts["topic"]["gold"]["not_promised"] == ["sport", "trade"]
    assert 0 < parts["topic"]["gold"]["orders_differ"] <= parts["topic"]["gold"]["orders_compared"] == 12
    assert {row["topic_source"] for row in found} == {"gold", None}
    assert parts["urgent"]["gold"] is None
    assert parts["urgent"]["abstained"] == {"cannot tell": sum(row["urgent"] is None for row in found)}
    assert parts["urgent"]["rows_by_llm"] > 0  # two orders that agree


def test_the_rows_for_review_are_ranked_for_each_signal_and_people_label_one_of_them(
    tickets: TableRef, stub: Stub, nights: Iterator[StepContext]
) -> None:
    stub(words=ALL_WORDS, wrong=0.4)
    outputs = run(tickets, next(nights), review_rows=4)
    found = rows(outputs.disagreements)
    bests = []
    for row in found:
        ranks = [row[f"{signal}_rank"] for signal in SIGNALS if row[f"{signal}_rank"] is not None]
        bests.append(min(ranks))
        for signal in SIGNALS:
            assert (row[f"{signal}_rank"] is None) == (row[f"{signal}_reason"] is None)
    assert bests == sorted(bests)
    for signal in SIGNALS:
        mine = sorted((row[f"{signal}_rank"], row["id"]) for row in found if row[f"{signal}_rank"])
        assert [rank for rank, _ in mine] == [1, 2, 3, 4]
        for most in (2, 9):
            taken = take_rows(outputs.disagreements.uri, key="id", text="body", most=most, label=signal)
            assert [row.key for row in taken.rows] == [str(number) for _, number in mine[:most]]
            assert taken.label == signal
            assert {row.why for row in taken.rows} == {"gold differs"}
            assert set(taken.classes) <= set(SIGNALS[signal]["labels"])
    assert take_rows(outputs.disagreements.uri, key="id", text="body", most=2).label == "topic"


@pytest.mark.parametrize("is_together", [True, False])
def test_rows_are_chosen_for_the_signal_that_is_least_sure_of_them(
    is_together: bool,
    tickets: TableRef,
    stub: Stub,
    nights: Iterator[StepContext],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ChatDialect, "takes_several", is_together)
    server = stub(words=ALL_WORDS)
    select, context = {"rows": 20, "rounds": 4, "random_share": 0.25}, next(nights)
    found = rows(run(tickets, context, gold_orders=1, select=select).table)
    asked = server.bill.billed
    assert asked == (ASKED_TWICE + 20) * (1 if is_together else 2)
    parts = report(context)["signals"]
    assert [parts[name]["abstained"] for name in parts] == [{"not chosen": ROWS - ASKED_TWICE - 20}] * 2
    assert report(context)["bill"]["requests"] == asked
    assert all(row["topic_inclusion"] == row["urgent_inclusion"] for row in found)
    by_hand = [row for row in found if row["topic_by_hand"] or row["urgent_by_hand"]]
    assert {row["topic_inclusion"] for row in by_hand} == {1.0}
    chances = [row["topic_inclusion"] for row in found if row not in by_hand and row["topic_inclusion"]]
    assert len(chances) == 20
    assert sum(chance < 1 for chance in chances) == 4  # of each round of 5 one is chosen at random
    again = next(nights)
    assert rows(run(tickets, again, gold_orders=1, select=select).table) == found
    assert server.bill.billed == asked


def test_batches_give_the_same(tickets: TableRef, stub: Stub, nights: Iterator[StepContext]) -> None:
    server = stub(words=ALL_WORDS, wrong=0.2, batch_seconds=0.0)
    context = next(nights)
    asking = {"model": "stub-2026-11-01", "batch": {"poll_seconds": 1}}
    for _ in range(9):
        try:
            found = rows(run(tickets, context, asking=asking).table)
            break
        except WaitingError:
            continue
    assert len(server.batches.batches) == 2
    assert report(context)["bill"]["accounted"] == billed(server)
    single = stub(words=ALL_WORDS, wrong=0.2)
    answers = str(context.workdir / "others")
    assert rows(run(tickets, next(nights), answers=answers).table) == found
    assert single.bill.contents == server.bill.contents


def test_one_signal_under_signals_is_asked_as_it_always_was(
    tickets: TableRef, stub: Stub, nights: Iterator[StepContext]
) -> None:
    server = stub(words=ALL_WORDS)
    expected = rows(alone(tickets, next(nights), "topic").table)
    asked = server.bill.billed
    context = next(nights)
    assert rows(run(tickets, context, signals={"topic": TOPIC}).table) == expected
    assert server.bill.billed == asked
    assert list(report(context)["signals"]) == ["topic"]


def changed(signal: str, **changes: Any) -> Mapping[str, Any]:
    return {"signals": {**SIGNALS, signal: {**SIGNALS.get(signal, TOPIC), **changes}}}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"signals": {}}, "labels are two or more"),
        ({"labels": {"a": "", "b": ""}}, "each signal has its own: leave out labels"),
        ({"label": "topic", "gold": "g"}, "each signal has its own: leave out label, gold"),
        (changed("urgent", labels={"now": ""}), "at least 2 items"),
        (changed("urgent", labels={"now": "", "cannot tell": ""}), "a label is a text"),
        (changed("urgent", gold=None, precision=0.9), "proved on gold rows"),
        (changed("body"), "must not leave"),
        (changed("urgent", gold="body"), "must not leave"),
        (changed("topic_answer"), "would both write the column 'topic_answer'"),
        (changed("Topic"), "would both write the column 'Topic'"),
        (changed(" "), "a signal has a name"),
    ],
)
def test_signals_that_do_not_fit_are_refused(changes: Mapping[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        LabelByLlmConfig.model_validate({**SHARED, "signals": SIGNALS, **changes})


def test_names_that_are_taken_are_refused_before_anything_is_sent(
    tickets: TableRef, stub: Stub, nights: Iterator[StepContext]
) -> None:
    server = stub()
    for error, changes, said in [
        (TableError, changed("urgent", gold="no_such"), "must have the column"),
        (ConfigError, changed("secret"), "columns of label 'secret' must not be in the table"),
        (
            TableError,
            changed("urgent", gold="topic_by_hand"),
            "gold labels are among the labels, 'later', 'now'",
        ),
    ]:
        with pytest.raises(error, match=said):
            run(tickets, next(nights), **changes)
    assert server.bill.requests == 0
