"""Hostile texts in ids, names and configurations reach neither files, nor code, nor Jinja."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import yaml

from modelmill.documents.names import NAME_PATTERN

Call = Callable[[str], Any]

IDS = (
    "..",
    "../topics",
    "..%2ftopics",
    "....//topics",
    "/etc/passwd",
    "topics/../../x",
    "topics%00",
    "topics\n",
    ".versions",
    ".versions/topics/00000001",
    "topics.yaml",
    "~",
    "*",
    "topics;rm -rf",
    "$(touch x)",
    "`touch x`",
    "topics' OR '1'='1",
    'topics"; DROP TABLE log; --',
    "{{ 7 * 7 }}",
    "<script>alert(1)</script>",
)
NAMES = (
    "../topics",
    "..",
    "/etc/cron.d/x",
    ".hidden",
    "a/b",
    "a\\b",
    "a\x00b",
    "A",
    "con.yaml",
    "{{ var.value.x }}",
    "${data}",
    "$(id)",
    "a;b",
    "a' OR 1=1 --",
    "<img src=x onerror=alert(1)>",
    "__import__('os')",
    "é",
    "a" * 64,
    "",
    "1a",
)
TEXTS = (
    "{{ conn.x.password }}",
    "{{ var.value.secret }}",
    "{% import os %}{{ os.system('id') }}",
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ macros.datetime.now() }}",
    "{{ ti.xcom_pull('x') }}",
    "{{ 7 * 7 }}",
    "{# comment #}",
    "{%- raw -%}x",
    "${{ 7 * 7 }}",
    "'); import os; os.system('id'); ('",
    "__import__('os').system('id')",
    "!!python/object/apply:os.system ['id']",
    "`id`",
    "$(id)",
    "; rm -rf /",
    "' OR '1'='1",
    "<script>alert(1)</script>",
    "\u202egnp.exe",
    "a\nsteps: {evil: {component: ingest}}",
)


@pytest.mark.parametrize("dag_id", IDS)
def test_an_id_names_a_pipeline_and_no_file(dag_id: str, call: Call, folder: Path) -> None:
    before = _everything(folder.parent)
    user = call("user")
    text = (folder / "topics.yaml").read_text()
    for method, path, body in (
        ("GET", "", None),
        ("PUT", "", {"text": text}),
        ("DELETE", "", {}),
        ("GET", "/versions", None),
        ("POST", "/versions/1/revert", {}),
        ("POST", "/runs", {}),
    ):
        answer = user(method, f"/pipelines/{quote(dag_id, safe='')}{path}", body, if_match='"x"')
        assert answer.status_code in (404, 405, 409, 422) or answer.json() in ([], None), answer.text
    assert _everything(folder.parent) == before


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_is_none_is_not_saved(name: str, call: Call, folder: Path) -> None:
    before = _everything(folder.parent)
    document = json.dumps({"pipeline": name, "steps": {"raw": {"component": "delta_table", "config": {}}}})
    saved = call("user")("PUT", "/pipelines/topics", {"text": document}, if_none_match="*")
    assert saved.status_code == 422, saved.text
    filled = {"name": name, "table": "/t", "text": "text", "label": "topic"}
    assert call("user")("POST", "/templates/one_click", {"values": filled}).status_code == 422
    assert _everything(folder.parent) == before


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_stays_the_text_that_it_is(text: str, call: Call, folder: Path) -> None:
    user = call("user")
    read = user("GET", "/pipelines/topics").json()
    document = {**read["document"], "description": text}
    document["steps"]["raw"]["config"]["uri"] = f"/data/{text}"
    checked = user("POST", "/check", {"text": yaml.safe_dump(document)}).json()
    assert checked["document"] == document
    if "${{" in text:  # to modelmill a parameter that is not declared
        assert "must name a parameter" in checked["problems"][0]["message"]
        return
    saved = user("PUT", "/pipelines/topics", {"text": checked["text"]}, if_match=f'"{read["etag"]}"')
    assert saved.status_code == 200, saved.text

    from jinja2.sandbox import SandboxedEnvironment

    from modelmill_operators.loader import load_pipelines

    task = load_pipelines(folder)["topics"].get_task("raw")
    assert task.config == {"uri": f"/data/{text}"}
    # What Airflow renders before a task runs is its template fields: rendering changes nothing of them.
    task.render_template_fields({"var": None}, SandboxedEnvironment())
    assert task.config == {"uri": f"/data/{text}"}
    assert "config" not in task.template_fields


@pytest.mark.parametrize("text", TEXTS)
def test_a_value_of_for_each_stays_the_text_that_it_is(text: str, call: Call, folder: Path) -> None:
    group = {"steps": ["copied"], "for_each": {"value": [text]}, "description": text}
    copied = {"component": "delta_table", "config": {"uri": "/data/${value}"}}
    document = {"pipeline": "copies", "groups": {"each": group}, "steps": {"copied": copied}}
    checked = call("user")("POST", "/check", {"text": yaml.safe_dump(document)}).json()
    assert checked["document"] == document
    if "${{" in text:
        assert "no parameter can give them" in checked["problems"][0]["message"]
        return
    saved = call("user")("PUT", "/pipelines/copies", {"text": checked["text"]}, if_none_match="*")
    assert saved.status_code == 200, saved.text

    from jinja2.sandbox import SandboxedEnvironment

    from modelmill_operators.loader import load_pipelines

    dag = load_pipelines(folder)["copies"]
    [task] = dag.tasks
    assert re.fullmatch(NAME_PATTERN, task.task_id)
    task.render_template_fields({"var": None}, SandboxedEnvironment())
    assert task.config == {"uri": f"/data/{text}"}
    assert dag.task_group.get_task_group_dict()["each"].tooltip == text


def test_steps_are_refused_where_a_run_is_started(call: Call, folder: Path) -> None:
    for step in NAMES:
        answer = call("user")("POST", "/pipelines/topics/runs", {"mode": "only", "step": step})
        assert answer.status_code == 422, (step, answer.text)


@pytest.mark.parametrize("half", ["\\ud800", "\\udfff"])
def test_half_a_character_is_refused(half: str, call: Call, folder: Path) -> None:
    before = _everything(folder.parent)
    user = call("user")
    read = user("GET", "/pipelines/topics").json()
    form = '"name": "x", "table": "/t", "label": "l"'
    for method, path, body in (
        ("POST", "/check", f'{{"text": "a: {half}"}}'),
        ("POST", "/diff", f'{{"before": "{half}", "after": "x"}}'),
        ("POST", "/templates/one_click", f'{{"values": {{{form}, "text": "{half}"}}}}'),
        ("PUT", "/pipelines/topics", json.dumps({"text": read["text"], "message": "&"}).replace("&", half)),
        ("PUT", "/pipelines/topics", json.dumps({"text": read["text"] + "&"}).replace("&", half)),
    ):
        answer = user.client.request(
            method,
            f"/modelmill/api{path}",
            content=body,
            headers={"content-type": "application/json", "if-match": f'"{read["etag"]}"'},
        )
        assert answer.status_code in (200, 422), (path, answer.text)
    assert _everything(folder.parent) == before


def _everything(folder: Path) -> dict[str, bytes]:
    found = {}
    for path in folder.rglob("*"):
        if path.is_file() and path.name != ".lock":
            found[str(path)] = path.read_bytes()
    return found


def test_an_answer_has_no_secret_of_the_deployment(
    call: Call, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = "of_the_deployment_1"
    place = f"s3://user:{secret}@bucket/x"
    values = {"PARAM_TOKEN": secret, "PARAM_STORE": place, "PARAM_DSN": f"Server=h;Password={secret}"}
    places = dict.fromkeys(("PARAM_RULES", "LABELLING", "LEDGER", "TABLES"), place)
    for name, value in (values | places | {"PARAM_DATA": str(folder)}).items():
        monkeypatch.setenv(f"MODELMILL_{name}", value)
    user, said = call("user"), ""
    for path in ("/catalogue", "/pipelines", "/rule-sets", "/labelling", "/models", "/home", "/tables"):
        said += user("GET", path).text
    for uri in ("${store}", "${dsn}", "${token}"):
        said += user("GET", f"/tables/preview?uri={uri}").text
        said += user("POST", "/labelling", {"name": "q", "table": uri, "key": "id", "text": "text"}).text
    assert secret not in said
    assert "a URI has no password in it" in said
    shown = call("viewer")("GET", "/catalogue").json()["params"]
    assert (shown["token"], shown["store"], shown["data"]) == ("***", "s3://***@bucket/x", str(folder))
