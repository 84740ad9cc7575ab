"""The first page through the API: what runs, waits, failed and was decided; samples to begin with."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from deltalake import DeltaTable
from sklearn.feature_extraction.text import CountVectorizer

from modelmill.datasets.options import BuildOptions
from modelmill.pipeline.validation import check_text
from modelmill.registry.ledger import Entry, LedgerRow, append, entries
from modelmill.settings import Settings
from modelmill_plugin.routes import home as home_routes
from modelmill_plugin.samples import sample_messages

Call = Callable[[str], Any]
ACTIONS: tuple[Literal["promote", "refuse"], ...] = ("promote", "refuse")
TEMPLATES = ("one_click", "language_model", "each_signal", "compression", "dataset", "rule_gate")


@pytest.fixture(name="known")
def _known(name: str, parse: Any) -> str:
    """A pipeline as the DAG processor leaves it, its tag included; its name."""
    from airflow.models.dag import DagTag
    from airflow.utils.session import create_session

    parse()
    with create_session() as session:
        session.add(DagTag(name="modelmill", dag_id=name))
    return name


def of(name: str, items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Only those of the test's own pipeline: Airflow's database is everybody's."""
    return [item for item in items if item["dag_id"] == name]


def test_a_run_is_first_under_way_then_among_the_failed(call: Call, known: str, settings: Settings) -> None:
    name = known
    run_id = call("user")("POST", f"/pipelines/{name}/runs", {"unpause": True}).json()["run_id"]
    home = call("viewer")("GET", "/home").json()
    [running] = of(name, home["running"])
    assert (running["run_id"], running["state"]) == (run_id, "queued")
    assert of(name, home["failed"]) == []
    _end(name, run_id, ended=datetime.now(UTC) - timedelta(hours=30))
    assert of(name, call("viewer")("GET", "/home").json()["running"]) == []
    assert of(name, call("viewer")("GET", "/home").json()["failed"]) == []
    [failed] = of(name, call("viewer")("GET", "/home?hours=48").json()["failed"])
    assert (failed["run_id"], failed["state"]) == (run_id, "failed")
    [listed] = of(name, call("viewer")("GET", "/pipelines").json()["pipelines"])
    assert listed["paused"] is False


def test_a_question_waits_until_it_is_answered(call: Call, known: str, settings: Settings) -> None:
    name = known
    run_id = call("user")("POST", f"/pipelines/{name}/runs", {"unpause": True}).json()["run_id"]
    _ask(name, run_id, "raw", "Promote it? <b>now</b>")
    [waiting] = of(name, call("viewer")("GET", "/home").json()["waiting"])
    assert (waiting["run_id"], waiting["task"], waiting["subject"]) == (
        run_id,
        "raw",
        "Promote it? <b>now</b>",
    )
    _answer(name, run_id, "raw")
    assert of(name, call("viewer")("GET", "/home").json()["waiting"]) == []


def test_a_question_is_for_those_who_may_read_it(
    call: Call, known: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
    from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager

    name = known
    run_id = call("user")("POST", f"/pipelines/{name}/runs", {"unpause": True}).json()["run_id"]
    _ask(name, run_id, "raw", "Promote it?")

    def no_questions(self: Any, *, access_entity: DagAccessEntity | None = None, **_: Any) -> bool:
        return access_entity is not DagAccessEntity.HITL_DETAIL

    monkeypatch.setattr(SimpleAuthManager, "is_authorized_dag", no_questions)
    home = call("viewer")("GET", "/home").json()
    assert len(of(name, home["running"])) == 1
    assert home["waiting"] == []


def test_runs_that_somebody_may_not_see_take_no_place(
    call: Call, known: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager
    from airflow.models.dag import DagModel, DagTag
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session
    from sqlalchemy import delete, select

    name, hidden = known, f"hidden_{known}"
    run_id = call("user")("POST", f"/pipelines/{name}/runs", {"unpause": True}).json()["run_id"]
    with create_session() as session:
        run = session.scalars(select(DagRun).where(DagRun.dag_id == name)).one()
        session.add(DagModel(dag_id=hidden, bundle_name="dags-folder", fileloc="/x.py", is_stale=False))
        session.flush()
        session.add(DagTag(name="modelmill", dag_id=hidden))
        later = run.run_after + timedelta(minutes=1)
        for number in range(201):
            session.add(
                DagRun(
                    dag_id=hidden,
                    run_id=f"run-{number}",
                    run_type="manual",
                    state="queued",
                    run_after=later,
                    logical_date=later + timedelta(seconds=number),
                )
            )

    def all_but_hidden(self: Any, *, details: Any = None, **_: Any) -> bool:
        return details is None or details.id != hidden

    monkeypatch.setattr(SimpleAuthManager, "is_authorized_dag", all_but_hidden)
    try:
        running = call("viewer")("GET", "/home").json()["running"]
        assert of(hidden, running) == []
        assert [run["run_id"] for run in of(name, running)] == [run_id]
    finally:
        with create_session() as session:
            session.execute(delete(DagRun).where(DagRun.dag_id == hidden))
            session.execute(delete(DagModel).where(DagModel.dag_id == hidden))


def test_what_was_decided_is_the_newest_of_the_ledger(call: Call, folder: Path, settings: Settings) -> None:
    for number, action in enumerate(ACTIONS):
        _decide(settings, number, action)
    home = call("viewer")("GET", "/home").json()
    assert [(row["action"], row["reasons"]) for row in home["decided"]] == [
        ("refuse", ["worse by a point"]),
        ("promote", []),
    ]
    assert home["ledger_problem"] == ""


def test_the_ledger_is_read_once_for_each_of_its_versions(
    call: Call, folder: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Settings] = []

    def counted(settings: Settings) -> list[LedgerRow]:
        read.append(settings)
        return entries(settings)

    monkeypatch.setattr(home_routes, "entries", counted)
    for number, action in enumerate(ACTIONS):
        _decide(settings, number, action)
        for _ in range(2):
            decided = call("viewer")("GET", "/home").json()["decided"]
            assert (decided[0]["action"], len(decided), len(read)) == (action, number + 1, number + 1)


def test_a_damaged_ledger_hides_nothing_else(call: Call, folder: Path, settings: Settings) -> None:
    log = Path(settings.ledger) / "_delta_log"
    log.mkdir(parents=True)
    (log / "00000000000000000000.json").write_text("not a log")
    home = call("viewer")("GET", "/home").json()
    assert home["ledger_problem"]
    assert home["decided"] == []


@pytest.mark.parametrize("template", TEMPLATES)
def test_each_template_has_a_sample_that_is_a_valid_pipeline(
    template: str, call: Call, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "rules").mkdir()
    monkeypatch.setenv("MODELMILL_PARAM_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("MODELMILL_PARAM_RULES", str(tmp_path / "rules"))
    for _ in range(2):  # the second time everything is there
        answer = call("user")("POST", f"/templates/{template}/sample")
        assert answer.status_code == 200, answer.text
    table = DeltaTable(tmp_path / "data" / "samples" / "messages")
    assert (table.version(), table.to_pyarrow_table().num_rows) == (0, 1_500)
    document = answer.json()["document"]
    assert document["pipeline"].startswith("sample_")
    import yaml

    _, spec, problems = check_text(yaml.safe_dump(document))
    assert list(problems) == []
    assert spec is not None
    assert (tmp_path / "rules" / "sample_desks.yaml").exists() == (template == "rule_gate")


def test_every_template_has_a_sample(call: Call) -> None:
    assert {item["name"] for item in call("viewer")("GET", "/templates").json()} == set(TEMPLATES)


def test_without_a_folder_for_tables_a_sample_says_what_to_set(
    call: Call, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MODELMILL_PARAM_DATA", raising=False)
    answer = call("user")("POST", "/templates/one_click/sample")
    assert (answer.status_code, "MODELMILL_PARAM_DATA" in answer.json()["remedy"]) == (422, True)
    assert call("user")("POST", "/templates/nothing/sample").status_code == 404


def test_the_sample_is_one_table_without_copies() -> None:
    table = sample_messages()
    assert len(set(table["text"].to_pylist())) == len(set(table["id"].to_pylist())) == table.num_rows
    assert table.equals(sample_messages())
    assert set(table["desk"][:4].to_pylist()) == set(table["desk"].to_pylist())
    # Nothing of it is left out as nearly the same as another row: a first run learns from all of it.
    pairs = CountVectorizer(ngram_range=(2, 2), binary=True).fit_transform(table["text"].to_pylist())
    common = (pairs @ pairs.T).toarray()
    sizes = pairs.sum(axis=1).A1
    similar = common / (sizes[:, None] + sizes[None, :] - common)
    np.fill_diagonal(similar, 0)
    assert similar.max() < (BuildOptions.model_fields["near_duplicates"].default or 0)


def test_some_of_the_sample_s_labels_are_wrong_and_none_of_those_by_hand() -> None:
    rows = sample_messages().to_pylist()
    desks = [row["desk"] for row in rows[:4]]
    truth = [desks[place % 4] for place in range(len(rows))]
    wrong = [row["id"] for row, desk in zip(rows, truth, strict=True) if row["desk"] != desk]
    assert len(wrong) == 40
    assert all(row["desk_by_hand"] in {None, desk} for row, desk in zip(rows, truth, strict=True))


def test_the_first_page_parses_no_pipeline(call: Call, folder: Path, settings: Settings) -> None:
    text = (folder / "topics.yaml").read_text()
    for number in range(300):
        (folder / f"many_{number}.yaml").write_text(
            text.replace("pipeline: topics", f"pipeline: many_{number}")
        )
    caller = call("viewer")
    caller("GET", "/home")
    began = time.process_time()
    assert caller("GET", "/home").status_code == 200
    first = time.process_time() - began
    began = time.process_time()
    listed = caller("GET", "/pipelines").json()["pipelines"]
    assert len(listed) == 301
    print(f"home {first:.3f} s, list of 301 {time.process_time() - began:.3f} s")
    assert first < 0.5


def _decide(settings: Settings, number: int, action: Literal["promote", "refuse"]) -> None:
    entry = Entry(
        action=action,
        model="desks",
        from_version=None if number == 0 else 1,
        to_version=1,
        digest="d",
        step_key=f"k{number}",
        who="me",
        reasons=("worse by a point",) if action == "refuse" else (),
    )
    append(settings, "desks", lambda head: entry, step_key=f"k{number}", moves_alias=False)


def _end(name: str, run_id: str, *, ended: datetime) -> None:
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session
    from sqlalchemy import update

    with create_session() as session:
        own = update(DagRun).where(DagRun.dag_id == name, DagRun.run_id == run_id)
        session.execute(own.values(state="failed", end_date=ended))


def _ask(name: str, run_id: str, task: str, subject: str) -> None:
    from airflow.models.hitl import HITLDetail
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        query = select(TaskInstance).where(TaskInstance.dag_id == name, TaskInstance.run_id == run_id)
        [found] = [item for item in session.scalars(query) if item.task_id == task]
        found.state = "awaiting_input"
        session.add(
            HITLDetail(
                ti_id=found.id,
                subject=subject,
                body="",
                options=["Approve", "Reject"],
                defaults=[],
                params={},
            )
        )


def _answer(name: str, run_id: str, task: str) -> None:
    from airflow.models.hitl import HITLDetail
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        query = select(HITLDetail).join(TaskInstance, TaskInstance.id == HITLDetail.ti_id)
        own = (TaskInstance.dag_id == name, TaskInstance.run_id == run_id, TaskInstance.task_id == task)
        for question in session.scalars(query.where(*own)):
            question.responded_at = datetime.now(UTC)
            question.chosen_options = ["Approve"]
