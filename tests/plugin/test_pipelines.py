"""Pipelines through the API: read, checked, saved, deleted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Call = Callable[[str], Any]


@pytest.fixture(name="read")
def _read(call: Call, folder: Path) -> dict[str, Any]:
    """The pipeline as a viewer reads it."""
    answer = call("viewer")("GET", "/pipelines/topics")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def quoted(etag: str) -> str:
    return f'"{etag}"'


def test_the_list_says_what_is_valid_and_what_the_user_may_do(call: Call, folder: Path) -> None:
    (folder / "broken.yaml").write_text("pipeline: broken\nsteps: {a: {component: nonsense}}\n")
    listed = call("viewer")("GET", "/pipelines").json()
    by_id = {item["dag_id"]: item for item in listed["pipelines"]}
    assert (by_id["topics"]["valid"], by_id["topics"]["steps"], by_id["topics"]["may_edit"]) == (
        True,
        2,
        False,
    )
    [problem] = by_id["broken"]["problems"]
    assert (problem["step"], problem["field"], problem["line"]) == ("a", "component", 2)
    assert listed["store"] == {"writable": True, "reason": "", "may_create": False}
    assert call("user")("GET", "/pipelines").json()["pipelines"][1]["may_edit"]


def test_the_list_names_the_models_of_every_copy(call: Call, folder: Path) -> None:
    (folder / "desks.yaml").write_text(
        "pipeline: desks\n"
        "groups: {each: {steps: [verdict], for_each: {topic: [grain, crude]}}}\n"
        "steps:\n"
        "  used: {component: use_champion, config: {name: topics}}\n"
        "  verdict:\n"
        "    component: gate\n"
        "    inputs: {dataset: used.dataset, challenger: used.model}\n"
        '    config: {name: "is_${topic}"}\n'
    )
    shown = {item["dag_id"]: item for item in call("user")("GET", "/pipelines").json()["pipelines"]}
    assert (shown["desks"]["models"], shown["desks"]["steps"]) == (["is_grain", "is_crude"], 2)


def test_a_pipeline_is_read_with_its_text_and_what_it_says(read: dict[str, Any], folder: Path) -> None:
    assert read["text"] == (folder / "topics.yaml").read_text()
    assert read["document"]["steps"]["raw"] == {"component": "delta_table", "config": {"uri": "/data/topics"}}
    assert read["spec"]["pipeline"] == "topics"
    assert read["problems"] == []


def test_dates_and_numbers_that_json_lacks_are_text_and_null(call: Call) -> None:
    checked = call("user")("POST", "/check", {"text": "day: 2024-01-01\nlimit: .inf\nname: x\n"}).json()
    assert checked["document"] == {"day": "2024-01-01", "limit": None, "name": "x"}


ALIASES = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
ALIASES += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "the text must be YAML"),
        ("\n".join(ALIASES), "aliases may add at most 20,000 places"),
        ("[" * 5000, ""),
        ("[" * 900 + "]" * 900, ""),
    ],
)
def test_a_text_that_is_not_yaml_or_too_large_a_document_is_said(text: str, message: str, call: Call) -> None:
    answer = call("user")("POST", "/check", {"text": text})
    assert answer.status_code == 200, answer.text
    checked = answer.json()
    assert checked["document"] is None
    assert message in checked["problems"][0]["message"]


def test_saving_keeps_comments_and_makes_versions(call: Call, read: dict[str, Any], folder: Path) -> None:
    user = call("user")
    text = read["text"].replace("/data/topics", "/data/others")
    checked = user("POST", "/check", {"text": text}).json()
    assert checked["text"] == text
    body = {"text": checked["text"], "message": "other data"}
    saved = user("PUT", "/pipelines/topics", body, if_match=quoted(read["etag"]))
    assert saved.status_code == 200, saved.text
    assert saved.headers["etag"] == quoted(checked["etag"])
    assert (folder / "topics.yaml").read_text() == checked["text"]
    versions = call("viewer")("GET", "/pipelines/topics/versions").json()
    assert [(item["number"], item["author"], item["message"]) for item in versions] == [
        (2, "user", "other data"),
        (1, "outside", "found in the folder"),
    ]
    back = user("POST", "/pipelines/topics/versions/1/revert", {}, if_match=quoted(checked["etag"]))
    assert back.json()["text"] == read["text"]
    assert (folder / "topics.yaml").read_text() == read["text"]


def test_the_second_of_two_savers_is_told_and_shown(call: Call, read: dict[str, Any], folder: Path) -> None:
    first = read["text"].replace("Topics of", "Topics in")
    second = read["text"].replace("0 2", "0 3")
    etag = quoted(read["etag"])
    assert call("user")("PUT", "/pipelines/topics", {"text": first}, if_match=etag).status_code == 200
    refused = call("op")("PUT", "/pipelines/topics", {"text": second}, if_match=etag)
    assert refused.status_code == 409
    conflict = refused.json()["conflict"]
    assert (conflict["author"], conflict["text"]) == ("user", first)
    assert '-description: Topics in texts\n-schedule: "0 2 * * *"\n' in conflict["diff"]
    assert (folder / "topics.yaml").read_text() == first
    again = call("op")("PUT", "/pipelines/topics", {"text": second}, if_match=quoted(conflict["etag"]))
    assert again.status_code == 200


def test_a_new_pipeline_replaces_none(call: Call, read: dict[str, Any], folder: Path) -> None:
    text = read["text"].replace("pipeline: topics", "pipeline: others")
    user = call("user")
    assert user("PUT", "/pipelines/others", {"text": text}).status_code == 428
    assert user("PUT", "/pipelines/others", {"text": text}, if_none_match="*").status_code == 200
    assert user("PUT", "/pipelines/others", {"text": text}, if_none_match="*").status_code == 409
    assert (folder / "others.yaml").read_text() == text


def test_a_deleted_pipeline_can_be_taken_back(call: Call, read: dict[str, Any], folder: Path) -> None:
    user = call("user")
    gone = user("DELETE", "/pipelines/topics", {"message": "old"}, if_match=quoted(read["etag"]))
    assert gone.status_code == 200, gone.text
    assert not (folder / "topics.yaml").exists()
    assert user("GET", "/pipelines/topics").status_code == 404
    assert [item["deleted"] for item in user("GET", "/pipelines/topics/versions").json()] == [True, False]
    assert user("POST", "/pipelines/topics/versions/1/revert", {}).status_code == 200
    assert (folder / "topics.yaml").read_text() == read["text"]


def test_an_invalid_pipeline_is_not_saved(call: Call, read: dict[str, Any], folder: Path) -> None:
    text = read["text"].replace("delta_table", "delta_tabel")
    refused = call("user")("PUT", "/pipelines/topics", {"text": text}, if_match=quoted(read["etag"]))
    assert refused.status_code == 422
    assert "did you mean 'delta_table'" in refused.json()["problems"][0]["message"]
    assert (folder / "topics.yaml").read_text() == read["text"]


def test_another_pipelines_name_is_refused(call: Call, read: dict[str, Any], folder: Path) -> None:
    text = read["text"].replace("pipeline: topics", "pipeline: others")
    refused = call("user")("PUT", "/pipelines/topics", {"text": text}, if_match=quoted(read["etag"]))
    assert (refused.status_code, refused.json()["got"]) == (422, "'others'")


def test_every_write_is_in_the_audit_log(call: Call, read: dict[str, Any]) -> None:
    text = read["text"].replace("Topics of", "Topics in")
    saved = call("user")("PUT", "/pipelines/topics", {"text": text}, if_match=quoted(read["etag"])).json()
    from airflow.models.log import Log
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        entry = session.scalars(
            select(Log).where(Log.event == "modelmill.save_pipeline").order_by(Log.id.desc())
        ).first()
        assert entry is not None
        assert (entry.owner, entry.dag_id) == ("user", "topics")
        assert f'"digest": "{saved["digest"]}"' in str(entry.extra)


def test_a_store_that_is_read_only_is_said(call: Call, read: dict[str, Any], folder: Path) -> None:
    (folder / ".versions").write_text("in the way of every save, for root as well")
    refused = call("user")("PUT", "/pipelines/topics", {"text": read["text"]}, if_match=quoted(read["etag"]))
    assert refused.status_code == 503
    assert refused.json()["kind"] == "StoreError"
    assert str(folder) in refused.json()["message"]
