"""Asking in batches: the step waits and goes on; neither a death nor a lost reply sends anything twice."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from benchmarks.crash_points import Died, crash_points
from demo.servers.language_model import LanguageModelStub
from tests.library.language_models.conftest import CONFIG

from modelmill.artifacts import TableRef
from modelmill.component import StepContext
from modelmill.errors import ConfigError, TransientError, WaitingError
from modelmill.pipeline.local_run import run_pipeline
from modelmill.pipeline.request import StepRequest
from modelmill.pipeline.runner import run_step
from modelmill.pipeline.validation import parse_pipeline
from modelmill.registry.tracking import tracking_client
from modelmill.settings import Settings
from modelmill.steps.label_by_llm import LabelByLlmOutputs
from modelmill.tables.reading import read_arrow

Label = Callable[..., LabelByLlmOutputs]
Stub = Callable[..., LanguageModelStub]

ASKING = {"model": "stub-2026-11-01", "attempts": 4, "batch": {"poll_seconds": 1}}
MOST_WAITS = 30


@pytest.fixture
def in_batches(label: Label, monkeypatch: pytest.MonkeyPatch) -> Label:
    """Return a function that runs the step again as long as it waits."""
    monkeypatch.setattr("modelmill.language_models.batches._LISTED_SECONDS", 0.0)

    def run(table: TableRef, *context: StepContext, **changes: Any) -> LabelByLlmOutputs:
        for _ in range(MOST_WAITS):
            with contextlib.suppress(WaitingError):
                return label(table, *context, **{"asking": ASKING, **changes})
        raise AssertionError("it waits for ever")

    return run


def report(context: StepContext) -> dict[str, Any]:
    path = context.run.client.download_artifacts(context.run.run_id, "labels.json")
    return dict(json.loads(Path(path).read_text()))


def test_a_batch_gives_the_labels_and_answers_of_single_requests(
    tmp_path: Path, news: TableRef, stub: Stub, label: Label, in_batches: Label, step_context: StepContext
) -> None:
    said: list[str] = []
    together = replace(step_context, log=said.append)
    server = stub(batch_seconds=0.0)
    found = in_batches(news, together, gold="gold")
    assert len(server.batches.batches) == 2  # the pilot, and the rest
    assert server.bill.requests == 4  # two files, two batches: nothing was asked alone
    assert server.batches.files == {}  # nothing is left at the endpoint
    assert sum("forecast, from 10 answers" in line for line in said) == 1
    bill = report(step_context)["bill"]
    assert bill["accounted"] == server.bill.billed_input + server.bill.billed_output
    alone = stub()
    other = replace(step_context, step_key="1" * 64, workdir=tmp_path / "second")
    answers = str(tmp_path / "other_answers")
    expected = label(news, other, gold="gold", to=str(tmp_path / "other"), answers=answers)
    assert read_arrow(found.table).equals(read_arrow(expected.table))
    assert server.bill.contents == alone.bill.contents  # the same bodies, to the byte
    # Each finds the other's answers: a key is what was asked, not how it was sent.
    third = replace(step_context, step_key="2" * 64, workdir=tmp_path / "third")
    label(news, third, gold="gold", to=str(tmp_path / "third_table"))
    assert alone.bill.requests == alone.bill.billed


def test_while_the_batch_is_at_work_the_step_waits_and_sends_nothing(
    news: TableRef, stub: Stub, label: Label
) -> None:
    server = stub(batch_seconds=60.0)
    for _ in range(3):
        with pytest.raises(WaitingError, match=r"in_progress; 0 of 10 requests are done") as caught:
            label(news, asking=ASKING)
        assert caught.value.path == f"batches/{next(iter(server.batches.batches))}"
        assert "completed" in caught.value.until
    assert len(server.batches.batches) == 1
    assert server.bill.billed == 0


def test_a_reply_that_is_lost_makes_no_second_batch(
    news: TableRef, stub: Stub, label: Label, in_batches: Label, step_context: StepContext
) -> None:
    server = stub(batch_reply_lost=1)
    with pytest.raises(TransientError, match="must answer"):
        label(news, asking=ASKING)
    in_batches(news)
    assert len(server.batches.batches) == 2
    assert set(server.bill.contents.values()) == {1}
    assert report(step_context)["bill"]["lost"] == 0


def test_what_a_batch_did_not_get_to_is_asked_again(
    news: TableRef, stub: Stub, in_batches: Label, step_context: StepContext
) -> None:
    server = stub(batch_expired=0.3)
    table = in_batches(news, asking={**ASKING, "attempts": 9}).table
    assert None not in read_arrow(table).column("topic").to_pylist()
    assert set(server.bill.contents.values()) == {1}
    assert [one.total for one in server.batches.batches.values()] == [10, 3, 1, 50, 15, 5, 1]
    bill = report(step_context)["bill"]
    assert bill["lost"] == 0
    assert bill["accounted"] == server.bill.billed_input + server.bill.billed_output


def test_faults_in_a_batch_are_accounted_for(
    news: TableRef, stub: Stub, in_batches: Label, step_context: StepContext
) -> None:
    server = stub(lost=0.1, failed=0.1, busy=0.1, without_usage=0.1, seed=3)
    table = in_batches(news, asking={**ASKING, "attempts": 9}).table
    assert None not in read_arrow(table).column("topic").to_pylist()
    bill = report(step_context)["bill"]
    assert bill["lost"] == server.bill.unanswered > 0
    assert server.bill.billed_input + server.bill.billed_output <= bill["accounted"]
    assert sum(server.bill.contents.values()) - len(server.bill.contents) <= bill["lost"]


def test_a_budget_that_has_no_room_for_all_lets_them_go_one_batch_after_the_other(
    news: TableRef, stub: Stub, in_batches: Label, step_context: StepContext
) -> None:
    server = stub()
    worst = 60 * 1200  # tokens of all requests, about
    table = in_batches(news, budget={"tokens": worst // 2}).table
    assert None not in read_arrow(table).column("topic").to_pylist()
    assert len(server.batches.batches) > 2
    assert report(step_context)["bill"]["accounted"] <= worst // 2


def test_a_budget_that_is_used_up_leaves_rows_without_a_label(
    news: TableRef, stub: Stub, in_batches: Label, step_context: StepContext
) -> None:
    server = stub()
    in_batches(news, budget={"tokens": 6_000}, over_budget="spend")
    found = report(step_context)
    assert found["failed"]["budget"] == 60 - found["rows_by_llm"] > 0
    assert server.bill.billed_input + server.bill.billed_output <= found["bill"]["accounted"] <= 6_000


def test_a_batch_that_is_refused_says_why_and_costs_nothing(
    news: TableRef, stub: Stub, label: Label, in_batches: Label, step_context: StepContext
) -> None:
    server = stub(batch_refused="The model does not exist")
    with pytest.raises(WaitingError):
        label(news, asking=ASKING)
    with pytest.raises(ConfigError, match="The model does not exist'; nothing was billed"):
        label(news, asking=ASKING)
    second = stub()
    in_batches(news)
    assert server.bill.billed == 0
    assert report(step_context)["bill"]["accounted"] == second.bill.billed_input + second.bill.billed_output


def test_an_endpoint_without_batches_is_named(news: TableRef, stub: Stub, label: Label) -> None:
    server = stub(key="secret")
    with pytest.raises(ConfigError, match=r"must take batches; got 'status 401 .*Incorrect API key provided"):
        label(news, asking=ASKING)
    assert server.bill.billed == 0


def test_large_tables_go_into_several_batches_at_once(
    news: TableRef, stub: Stub, in_batches: Label, step_context: StepContext
) -> None:
    server = stub()
    in_batches(news, asking={**ASKING, "batch": {"poll_seconds": 1, "requests": 20}})
    assert sorted(one.total for one in server.batches.batches.values()) == [10, 10, 20, 20]
    assert set(server.bill.contents.values()) == {1}


def test_deaths_at_any_effect_send_nothing_twice(
    tmp_path: Path, news: TableRef, stub: Stub, label: Label, in_batches: Label, step_context: StepContext
) -> None:
    clean_place = tmp_path / "clean"
    stub()
    clean = in_batches(news, gold="gold", to=str(clean_place), answers=str(tmp_path / "clean_answers"))
    expected = read_arrow(clean.table)
    deaths = 0
    with crash_points() as points:
        for at in range(3, 90, 7):
            server = stub()
            place = tmp_path / str(at)
            context = replace(step_context, step_key=f"{at:064d}", workdir=place / "work")
            changes = {"gold": "gold", "to": str(place / "to"), "answers": str(place / "answers")}
            for again in range(3):  # dies at another place each time
                try:
                    with points.life(at + again * 11):
                        label(news, context, asking=ASKING, **changes)
                except (Died, WaitingError) as error:
                    deaths += isinstance(error, Died)
            assert read_arrow(in_batches(news, context, **changes).table).equals(expected)
            assert set(server.bill.contents.values()) == {1}
    assert deaths > 10


def test_a_run_without_airflow_waits_and_goes_on(
    tmp_path: Path, news: TableRef, stub: Stub, settings: Settings
) -> None:
    stub(batch_seconds=0.5)
    spec = parse_pipeline(
        f"""
pipeline: taught
steps:
  raw: {{component: delta_table, config: {{uri: "{news.uri}"}}}}
  labelled:
    component: label_by_llm
    inputs: {{table: raw.table}}
    config:
      columns: [body]
      label: topic
      labels: {{sport: games, trade: markets}}
      asking: {{model: stub-2026-11-01, batch: {{poll_seconds: 1}}}}
      budget: {{tokens: 10000000}}
"""
    )
    said: list[str] = []
    result = run_pipeline(spec, settings=settings, say=said.append)["labelled"]
    assert [line for line in said if "waits for a batch of the language model" in line]
    client = tracking_client(settings.tracking_uri)
    # Each attempt went on with the same run, which is the only one.
    experiment = client.get_experiment_by_name("taught")
    found = client.search_runs([experiment.experiment_id], filter_string="attributes.run_name = 'labelled'")
    assert [(run.info.run_id, run.info.status) for run in found] == [(result.run_id, "FINISHED")]


def test_a_step_that_waits_is_told_as_waiting(news: TableRef, stub: Stub, settings: Settings) -> None:
    stub(batch_seconds=60.0)
    config = {**CONFIG, "asking": ASKING}
    request = StepRequest(
        pipeline="taught", step="labelled", component="label_by_llm", config=config, inputs={"table": news}
    )
    with pytest.raises(WaitingError) as caught:
        run_step(request, settings)
    assert WaitingError(**caught.value.told()).args == caught.value.args
    client = tracking_client(settings.tracking_uri)
    experiment = client.get_experiment_by_name("taught")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "SCHEDULED"


def test_a_model_of_a_folder_takes_no_batches(news: TableRef, label: Label) -> None:
    local = {"model": "m-2026", "dialect": "local", "local": {"folder": "/m"}, "batch": {}}
    with pytest.raises(ValueError, match="leave out batch"):
        label(news, asking=local)
