"""Models through the API: the ledger, the versions, back to the pipeline that made one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modelmill.registry.bundles import TAG_DATASET, TAG_DIGEST, TAG_RECIPE, TAG_ROLE
from modelmill.registry.gate_report import TAG_JUDGED
from modelmill.registry.ledger import Entry, append, entries
from modelmill.registry.tracking import tracking_client
from modelmill.registry.versions import TAG_FORMAT
from modelmill.settings import MODEL_TRAINING, Settings
from modelmill_plugin.routes.models import with_evidence

Call = Callable[[str], Any]


@pytest.fixture(name="digest")
def _digest(settings: Settings, call: Call, folder: Path) -> str:
    """A model with two versions, the first one champion; the digest of the pipeline that made it."""
    digest = str(call("user")("GET", "/pipelines/topics").json()["digest"])
    client = tracking_client(settings.tracking_uri)
    client.create_registered_model("topic")
    for number, accuracy in enumerate((0.9, float("nan")), start=1):
        run = client.create_run(client.create_experiment(f"topics{number}"))
        client.log_metric(run.info.run_id, "accuracy", accuracy)
        client.set_tag(run.info.run_id, "airflow.run_id", f"night_{number}")
        tags = {
            "modelmill.pipeline": "topics",
            "modelmill.pipeline_digest": digest if number == 1 else "0" * 64,
            "modelmill.dataset": f"/data/topics@{number}",
            "modelmill.role": "exported",
        }
        client.create_model_version("topic", source="/files", run_id=run.info.run_id, tags=tags)
    client.set_registered_model_alias("topic", "champion", "2")
    entry = Entry(
        action="promote", model="topic", from_version=None, to_version=1, digest="d", step_key="k", who="me"
    )
    append(settings, "topic", lambda head: entry, step_key="k", moves_alias=False)
    return digest


def test_models_are_listed_with_their_champions(call: Call, digest: str) -> None:
    [model] = call("viewer")("GET", "/models").json()
    # Somebody has moved the alias by hand: the ledger says 1.
    assert (model["name"], model["champion"], model["alias"], model["versions"]) == ("topic", 1, 2, 2)
    assert (model["last"]["who"], model["last"]["action"]) == ("me", "promote")


def test_a_model_is_shown_with_its_versions(call: Call, digest: str) -> None:
    shown = call("viewer")("GET", "/models/topic").json()
    assert [version["version"] for version in shown["all_versions"]] == [2, 1]
    assert shown["all_versions"][1]["metrics"] == {"accuracy": 0.9}
    assert shown["all_versions"][0]["metrics"] == {}  # no number: JSON has none
    assert [version["dag_run"] for version in shown["all_versions"]] == ["night_2", "night_1"]
    assert (shown["may_roll_back"], call("op")("GET", "/models/topic").json()["may_roll_back"]) == (
        False,
        True,
    )
    [row] = shown["history"]
    assert (row["number"], row["evidence_url"]) == (1, "")
    tree = call("viewer")("GET", "/models/topic/versions/1/lineage").json()
    assert (tree["uri"], tree["made_from"][0]["uri"]) == ("models:/topic/1", "/data/topics@1")
    gone = call("viewer")("GET", "/models/topic/versions/7/lineage")
    assert gone.status_code == 404
    assert call("viewer")("GET", "/models/nothing").status_code == 404


@pytest.mark.parametrize("number", [2**31, 2**63, 10**30])
def test_a_version_with_too_great_a_number_is_none_and_no_fault_of_mlflows(
    call: Call, digest: str, number: int
) -> None:
    op = call("op")
    answers = [
        op("GET", f"/models/topic/versions/{number}/{what}") for what in ("verdict", "source", "lineage")
    ]
    answers.append(op("POST", "/models/topic/answers", {"text": "a", "versions": [number]}))
    answers.append(op("POST", "/models/topic/rollback", {"why": "a", "to": number}))
    assert [answer.status_code for answer in answers] == [404, 404, 404, 404, 422]
    assert not any(answer.json()["retry"] for answer in answers)


def test_the_ledger_leads_to_the_report_of_the_gate(settings: Settings, digest: str) -> None:
    experiment = tracking_client(settings.tracking_uri).create_experiment("topics")
    entry = Entry(
        action="refuse", model="topic", from_version=1, to_version=1, digest="d", step_key="k2", who="me",
        pipeline="topics", evidence="runs:/abc/gate/verdict.json",
    )  # fmt: skip
    append(settings, "topic", lambda head: entry, step_key="k2", moves_alias=False)
    shown = with_evidence(entries(settings), tracking_client(settings.tracking_uri), "http://mlflow:5000/")
    url = f"http://mlflow:5000/#/experiments/{experiment}/runs/abc/artifacts/gate/verdict.html"
    assert [row.evidence_url for row in shown] == ["", url + MODEL_TRAINING]


def test_a_version_shows_what_the_gate_has_said_of_it(
    call: Call, digest: str, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = "/models/topic/versions/2/verdict"
    unjudged = call("user")("GET", path).json()
    assert (unjudged["uri"], unjudged["content"], unjudged["texts_hidden"]) == ("", None, False)
    client = tracking_client(settings.tracking_uri)
    experiment = client.create_experiment("gates", artifact_location=str(tmp_path / "gates"))
    tags = {"airflow.dag_id": "topics", "airflow.run_id": "night_2", "airflow.task_id": "verdict"}
    run = client.create_run(experiment, tags=tags).info.run_id
    report = {
        "passed": True,
        "checks": [],
        "rows": 38,
        "mistakes": [{"key": "T7", "text": "a customer's own words"}],
    }
    client.log_dict(run, report, "gate/verdict.json")
    for number, action in ((2, "promote"), (3, "refuse")):
        # What was refused leaves version 2 in use: that report is not about it.
        evidence = f"runs:/{run}/gate/verdict.json" if action == "promote" else "runs:/abc/gate/verdict.json"
        entry = Entry(
            action=action, model="topic", from_version=1, to_version=2, digest="d", step_key=f"k{number}",
            who="me", evidence=evidence,
        )  # fmt: skip
        append(settings, "topic", lambda head, it=entry: it, step_key=f"k{number}", moves_alias=False)
    shown = call("user")("GET", path).json()
    assert (shown["content"], shown["texts_hidden"]) == (report, False)
    assert (shown["dag_id"], shown["dag_run"], shown["step"]) == ("topics", "night_2", "verdict")
    without = call("viewer")("GET", path)
    assert without.json()["content"] == {"passed": True, "checks": [], "rows": 38}
    assert (without.json()["texts_hidden"], "own words" in without.text) == (True, False)
    assert call("viewer")("GET", "/models/topic/versions/7/verdict").status_code == 404

    monkeypatch.setattr("modelmill_plugin.routes.verdicts.may", lambda method, dag_id, *_: dag_id != "topics")
    refused = call("viewer")("GET", path)
    assert (refused.status_code, refused.json()["got"]) == (403, "'topics'")


def test_what_made_a_model_is_opened(call: Call, digest: str, folder: Path) -> None:
    source = call("viewer")("GET", "/models/topic/versions/1/source").json()
    assert (source["dag_id"], source["digest"], source["number"]) == ("topics", digest, None)
    assert source["text"] == (folder / "topics.yaml").read_text()
    # After it has been changed it is a version.
    read = call("user")("GET", "/pipelines/topics").json()
    text = read["text"].replace("/data/topics", "/data/others")
    call("user")("PUT", "/pipelines/topics", {"text": text}, if_match=f'"{read["etag"]}"')
    later = call("viewer")("GET", "/models/topic/versions/1/source").json()
    assert (later["text"], later["number"]) == (source["text"], 1)
    unknown = call("viewer")("GET", "/models/topic/versions/2/source")
    assert (unknown.status_code, "outside of the canvas" in unknown.json()["remedy"]) == (404, True)


def test_a_pipeline_that_a_user_may_not_read_is_not_shown_as_a_source(
    call: Call, digest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.api_fastapi.app import get_auth_manager
    from airflow.api_fastapi.auth.managers.models.resource_details import DagDetails

    def allows_other_pipelines(*, details: DagDetails | None = None, **_: object) -> bool:
        return details is None or details.id != "topics"

    monkeypatch.setattr(get_auth_manager(), "is_authorized_dag", allows_other_pipelines)
    answer = call("viewer")("GET", "/models/topic/versions/1/source")
    assert (answer.status_code, answer.json()["got"]) == (403, "'topics'")
    assert "delta_table" not in answer.text


def test_a_rollback_is_refused_with_its_reason(call: Call, digest: str) -> None:
    refused = call("op")("POST", "/models/topic/rollback", {"why": "it is slow", "to": 7})
    assert (refused.status_code, refused.json()["kind"]) == (422, "GateError")
    assert call("op")("POST", "/models/topic/rollback", {"why": ""}).status_code == 422


def test_an_mlflow_that_is_down_is_said(call: Call, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    answer = call("viewer")("GET", "/models")
    assert (answer.status_code, answer.json()["retry"]) == (503, True)
    assert "MLflow must answer" in answer.json()["message"]
    assert call("viewer")("GET", "/pipelines").status_code == 200


def test_who_cannot_answer_a_text_is_said(call: Call, digest: str, settings: Settings) -> None:
    user = call("user")
    unknown = user("POST", "/models/topic/answers", {"text": "a", "versions": [7]})
    assert (unknown.status_code, "topic version 7" in unknown.json()["message"]) == (404, True)
    no_lineage = user("POST", "/models/topic/answers", {"text": "a", "versions": [1]})
    assert (no_lineage.status_code, "must carry its lineage" in no_lineage.json()["message"]) == (422, True)
    client = tracking_client(settings.tracking_uri)
    lineage = dict.fromkeys((TAG_DIGEST, TAG_DATASET, TAG_RECIPE, TAG_ROLE), "a")
    client.create_model_version("topic", source="/files", tags={**lineage, TAG_FORMAT: "rules"})
    rules = user("POST", "/models/topic/answers", {"text": "a", "versions": [3]})
    assert (rules.status_code, "its own page" in rules.json()["remedy"]) == (409, True), rules.text
    for body in (
        {"text": "", "versions": [1]},
        {"versions": [1]},
        {"text": "a", "image": "R0lGODlh", "versions": [1]},
        {"image": "not base64!", "versions": [1]},
        {"image": "R0lG" * 980_000, "versions": [1]},
        {"text": "a", "versions": []},
        {"text": "a", "versions": [1, 2, 3]},
    ):
        assert user("POST", "/models/topic/answers", body).status_code == 422
    assert user("POST", "/models/topic/answers", {"text": "x" * 20_001, "versions": [1]}).status_code == 422


def test_nights_have_the_figure_that_was_judged(
    call: Call, digest: str, settings: Settings, tmp_path: Path
) -> None:
    client = tracking_client(settings.tracking_uri)
    experiment = client.create_experiment("judged", artifact_location=str(tmp_path / "artifacts"))
    run = client.create_run(experiment).info.run_id
    figures = {"value": 0.91, "low": 0.88, "high": 0.94}
    chain = [
        {"metric": "accuracy", "unit": "share", "value": 0.95},
        {"metric": "accuracy", "unit": "share", **figures},
    ]
    client.log_dict(run, {"passed": False, "chain": chain}, "gate/verdict.json")
    for number, evidence in enumerate(
        (f"runs:/{run}/gate/verdict.json", f"runs:/{run}/gate/gone.json", "runs:/../x")
    ):
        entry = Entry(
            action="refuse",
            model="topic",
            from_version=1,
            to_version=1,
            digest="d",
            step_key=f"night {number}",
            evidence=evidence,
            who="me",
        )
        append(settings, "topic", lambda head, entry=entry: entry, step_key=entry.step_key, moves_alias=False)
    answer = call("viewer")("GET", "/models/topic/nights")
    assert answer.status_code == 200, answer.text
    first, judged, gone, strange = answer.json()
    assert (first["action"], first["to_version"], first["value"]) == ("promote", 1, None)
    assert (judged["action"], judged["metric"], judged["unit"]) == ("refuse", "accuracy", "share")
    assert {name: judged[name] for name in figures} == figures
    assert (gone["value"], strange["metric"]) == (None, "")
    assert call("viewer")("GET", "/models/unknown/nights").json() == []


def test_fifty_nights_are_two_questions(
    call: Call, digest: str, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = tracking_client(settings.tracking_uri)
    experiment = client.create_experiment("judged", artifact_location=str(tmp_path / "artifacts"))
    figures = {"metric": "accuracy", "unit": "share", "low": 0.8, "high": 0.95}
    for number in range(50):
        run = client.create_run(experiment).info.run_id
        client.set_tag(run, TAG_JUDGED, json.dumps({**figures, "value": 0.9 + number / 1000}))
        entry = Entry(
            action="refuse",
            model="topic",
            from_version=1,
            to_version=1,
            digest="d",
            step_key=f"night {number}",
            evidence=f"runs:/{run}/gate/verdict.json",
            who="me",
        )
        append(settings, "topic", lambda head, entry=entry: entry, step_key=entry.step_key, moves_alias=False)
    asked: list[str] = []
    names = ("search_experiments", "search_runs", "list_artifacts", "download_artifacts", "get_run")
    for name, method in {name: getattr(type(client), name) for name in names}.items():

        def counted(*given: Any, of: Any = method, called: str = name, **more: Any) -> Any:
            asked.append(called)
            return of(*given, **more)

        monkeypatch.setattr(type(client), name, counted)
    nights = call("viewer")("GET", "/models/topic/nights").json()
    assert [night["value"] for night in nights[1:]] == [0.9 + number / 1000 for number in range(50)]
    assert {night["metric"] for night in nights[1:]} == {"accuracy"}
    assert asked == ["search_experiments", "search_runs"]
