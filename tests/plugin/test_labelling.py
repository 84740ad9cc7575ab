"""The labelling page's routes: several people, nothing written twice, the rows that a model gets wrong."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from modelmill.registry.tracking import tracking_client
from modelmill.settings import Settings

Call = Callable[[str], Any]
HOSTILE = "<img src=x onerror=xss()> text"


@pytest.fixture(name="lake")
def _lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    lake = tmp_path / "lake"
    monkeypatch.setenv("MODELMILL_PARAM_DATA", str(lake))
    monkeypatch.delenv("MODELMILL_TABLES", raising=False)
    monkeypatch.setenv("MODELMILL_LABELLING", str(tmp_path / "labelling"))
    rows = {
        "id": [f"r{number}" for number in range(6)],
        "text": [f"{HOSTILE} {number}" for number in range(6)],
        "topic": ["sport", "trade", "sport", None, "trade", "sport"],
        "suggested_label": ["trade"] * 6,
    }
    write_deltalake(str(lake / "suspects"), pa.table(rows))
    return lake


FORWARD = {"name": "suspects", "table": "${data}/suspects", "key": "id", "text": "text"}


def given(key: str, value: Any, action: str = "label", *, id_: str = "") -> dict[str, Any]:
    return {"id": id_ or f"identity-{key}", "key": key, "action": action, "value": value}


def test_people_label_rows_with_several_at_once(call: Call, lake: Path) -> None:
    made = call("user")("POST", "/labelling", FORWARD | {"second_opinion": 1.0})
    assert made.status_code == 200, made.text
    queue = made.json()["queue"]["queue"]
    assert (queue["label"], queue["classes"], queue["kind"]) == ("topic", ["trade", "sport"], "class")
    assert (made.json()["added"], made.json()["left_out"]) == (6, 0)
    handed = call("user")("POST", "/labelling/suspects/rows", {"rows": 2}).json()["rows"]
    assert [(row["key"], row["label"], row["suggestion"]) for row in handed] == [
        ("r0", "sport", "trade"),
        ("r1", "trade", "trade"),
    ]
    assert handed[0]["text"] == f"{HOSTILE} 0"
    body = {"given": [given("r0", "sport"), given("r1", None, "skip")]}
    kept = call("user")("POST", "/labelling/suspects/labels", body)
    assert (kept.status_code, kept.json()["kept"]) == (200, 2), kept.text
    assert call("user")("POST", "/labelling/suspects/labels", body).json()["kept"] == 0
    other = {"given": [given("r0", "trade", id_="of-another")]}
    call("admin")("POST", "/labelling/suspects/labels", other)
    shown = call("viewer")("GET", "/labelling/suspects").json()
    assert (shown["rows"], shown["labelled"], shown["contested"]) == (6, 1, 1)
    assert shown["people"] == {"admin": 1, "user": 1}
    assert shown["agreement"] == [{"people": ["admin", "user"], "rows": 1, "share": 0.0, "kappa": 0.0}]
    assert HOSTILE not in str(shown)  # a viewer sees counts and no rows
    assert call("viewer")("GET", "/labelling").json() == [shown]
    rows = DeltaTable(shown["table"]).to_pyarrow_table().sort_by("when").to_pylist()
    assert [(row["key"], row["label"], row["who"]) for row in rows] == [
        ("r0", "sport", "user"),
        ("r0", "trade", "admin"),
    ]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"given": [given("r0", "art")]}, "is one of the classes"),
        ({"given": [given("gone", "sport")]}, "in the queue suspects"),
        ({"given": [given("r0", None)]}, "a label has a value"),
        ({"given": [given("r0", "sport", "undo")]}, "a label has a value"),
        ({"given": [given("r0", "sport", id_="short")]}, "id"),
        ({"given": []}, "given"),
    ],
)
def test_what_is_no_label_is_refused(body: dict[str, Any], message: str, call: Call, lake: Path) -> None:
    call("user")("POST", "/labelling", FORWARD)
    answer = call("user")("POST", "/labelling/suspects/labels", body)
    assert answer.status_code == 422
    assert message in answer.json()["message"]
    assert call("user")("GET", "/labelling/suspects").json()["labelled"] == 0


def test_what_a_queue_that_is_there_does_not_take_is_said(call: Call, lake: Path) -> None:
    first = call("user")("POST", "/labelling", FORWARD | {"second_opinion": 0.2}).json()
    assert (first["queue"]["queue"]["second_opinion"], first["second_opinion_not_taken"]) == (0.2, None)
    other = call("user")("POST", "/labelling", FORWARD | {"second_opinion": 0.5}).json()
    assert (other["queue"]["queue"]["second_opinion"], other["second_opinion_not_taken"]) == (0.2, 0.5)
    assert call("user")("POST", "/labelling", FORWARD).json()["second_opinion_not_taken"] is None


def test_hundreds_of_classes_are_sent_and_too_many_refused(call: Call, lake: Path) -> None:
    def forward(classes: int) -> Any:
        body = {"name": f"many_{classes}", "classes": [f"class {number}" for number in range(classes)]}
        return call("user")("POST", "/labelling", FORWARD | body)

    assert len(forward(1000).json()["queue"]["queue"]["classes"]) == 1000
    refused = forward(1001)
    assert refused.status_code == 422
    assert "1,000 classes at most, not 1,001" in refused.json()["message"]


def test_what_one_person_did_is_not_kept_in_the_name_of_another(call: Call, lake: Path) -> None:
    call("user")("POST", "/labelling", FORWARD)
    body = {"who": "user", "given": [given("r0", "sport")]}
    refused = call("admin")("POST", "/labelling/suspects/labels", body)
    assert (refused.status_code, refused.json()["kind"]) == (409, "OtherUserError")
    assert "log in as user" in refused.json()["message"]
    assert call("viewer")("GET", "/labelling/suspects").json()["people"] == {}
    assert call("user")("POST", "/labelling/suspects/labels", body).json()["kept"] == 1


def test_a_skip_is_taken_back_and_rows_in_front_are_kept(call: Call, lake: Path) -> None:
    call("user")("POST", "/labelling", FORWARD)
    user = call("user")
    user("POST", "/labelling/suspects/rows", {"rows": 1})
    user("POST", "/labelling/suspects/labels", {"given": [given("r0", None, "skip")]})
    back = {"given": [given("r0", None, "unskip", id_="taken-back")]}
    assert user("POST", "/labelling/suspects/labels", back).json()["queue"]["skipped"] == 0
    held = user("POST", "/labelling/suspects/rows", {"rows": 0, "holding": ["r0", "gone"]}).json()["rows"]
    assert [row["key"] for row in held] == ["r0"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"table": "/etc"}, "only tables below"),
        ({"key": "ident"}, "must have the column"),
        ({"classes": ["one"]}, "two classes or more"),
        ({"name": "../x"}, "name"),
        ({"kind": "number", "classes": [], "text": "id", "key": "id", "rows": 0}, "rows"),
    ],
)
def test_what_cannot_be_put_forward_is_said(
    change: dict[str, Any], message: str, call: Call, lake: Path
) -> None:
    answer = call("user")("POST", "/labelling", FORWARD | change)
    assert answer.status_code == 422
    assert message in answer.json()["message"]
    assert call("viewer")("GET", "/labelling").json() == []


def test_the_wrong_rows_of_a_model_go_to_labelling(
    call: Call, name: str, parse: Any, lake: Path, settings: Settings, tmp_path: Path
) -> None:
    # The helper of the neighbouring tests that hands references on as workers do.
    spec = importlib.util.spec_from_file_location("results", Path(__file__).with_name("test_results.py"))
    assert spec is not None
    assert spec.loader is not None
    results = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(results)
    parse()
    long = f"{HOSTILE}\n {'long ' * 100}"
    texts = [long, "short one", "right one"]
    rows = {
        "key": ["a", "b", "c"],
        "text": texts,
        "topic": ["sport", "trade", "sport"],
        "split": ["test"] * 3,
    }
    write_deltalake(str(lake / "dataset"), pa.table(rows))
    from modelmill.errors import shorten

    mistakes = [
        {"text": shorten(text, limit=300), "label": "sport", "answer": "trade", "score": 0.9}
        for text in texts[:2]
    ]
    report = {
        "challenger": "models:/m-1",
        "passed": False,
        "dataset": f"{lake}/dataset@0",
        "label": "topic",
        "classes": [{"name": "sport"}, {"name": "trade"}],
        "mistakes": mistakes,
    }
    client = tracking_client(settings.tracking_uri)
    run = client.create_run(client.create_experiment("t", artifact_location=str(tmp_path / "a"))).info.run_id
    client.log_dict(run, report, "gate/verdict.json")
    run_id = call("user")("POST", f"/pipelines/{name}/runs", {"unpause": True}).json()["run_id"]
    dataset = {
        "kind": "dataset",
        "uri": f"{lake}/dataset",
        "version": 0,
        "key": "key",
        "text": "text",
        "labels": ["topic"],
        "split": "split",
    }
    verdict = {"kind": "verdict", "uri": f"runs:/{run}/gate/verdict.json", "run_id": run}
    results._hand_on(
        name,
        run_id,
        {"raw": {"verdict": verdict}, "dataset": {"dataset": dataset}},
        {"run_id": run, "run_url": ""},
    )
    path = f"/pipelines/{name}/runs/{run_id}/steps/raw/labelling"
    answer = call("user")("POST", path, {"name": "wrong"})
    assert answer.status_code == 200, answer.text
    assert (answer.json()["added"], answer.json()["queue"]["queue"]["classes"]) == (2, ["sport", "trade"])
    assert call("user")("POST", path, {"name": "wrong"}).json()["added"] == 0
    handed = call("user")("POST", "/labelling/wrong/rows", {"rows": 5}).json()["rows"]
    assert [(row["key"], row["suggestion"]) for row in handed] == [(long, "trade"), ("short one", "trade")]
    assert call("user")("POST", path, {}).json()["queue"]["queue"]["name"].startswith("wrong_p")
