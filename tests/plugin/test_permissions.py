"""Every route and every role: the table of expected answers. A new route that is not in it fails."""

from __future__ import annotations

from collections.abc import Callable
from inspect import isfunction
from pathlib import Path
from typing import Any, Literal

import pytest
from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute

Call = Callable[[str], Any]
Lowest = Literal["viewer", "user", "op"]
CLIENT = Path(__file__).parents[2] / "plugins" / "canvas" / "src" / "api" / "schema.d.ts"
ROLES = ("anonymous", "viewer", "user", "op", "admin")

# Lowest role that a route serves. Reading takes a viewer; changing, running and looking into data a user;
# saying which model is in use takes an operator.
ROUTES: dict[tuple[str, str], Lowest] = {
    ("GET", "/api/catalogue"): "viewer",
    ("GET", "/api/pipelines"): "viewer",
    ("GET", "/api/pipelines/{dag_id}"): "viewer",
    ("PUT", "/api/pipelines/{dag_id}"): "user",
    ("DELETE", "/api/pipelines/{dag_id}"): "user",
    ("POST", "/api/check"): "viewer",
    ("POST", "/api/diff"): "viewer",
    ("GET", "/api/pipelines/{dag_id}/versions"): "viewer",
    ("GET", "/api/pipelines/{dag_id}/versions/{number}"): "viewer",
    ("GET", "/api/pipelines/{dag_id}/digests/{digest}"): "viewer",
    ("POST", "/api/pipelines/{dag_id}/versions/{number}/revert"): "user",
    ("GET", "/api/templates"): "viewer",
    ("POST", "/api/templates/{name}"): "viewer",
    ("POST", "/api/templates/{name}/sample"): "user",
    ("GET", "/api/home"): "viewer",
    ("GET", "/api/tables"): "user",
    ("POST", "/api/tables"): "user",
    ("GET", "/api/tables/preview"): "user",
    ("GET", "/api/pipelines/{dag_id}/dag"): "viewer",
    ("POST", "/api/pipelines/{dag_id}/parse"): "user",
    ("POST", "/api/pipelines/{dag_id}/runs"): "user",
    ("POST", "/api/pipelines/{dag_id}/forecast"): "user",
    ("GET", "/api/pipelines/{dag_id}/runs"): "viewer",
    ("GET", "/api/pipelines/{dag_id}/runs/{run_id}"): "viewer",
    ("GET", "/api/pipelines/{dag_id}/runs/{run_id}/steps/{step}/log"): "viewer",
    ("GET", "/api/pipelines/{dag_id}/runs/{run_id}/steps/{step}/result"): "viewer",
    ("GET", "/api/pipelines/{dag_id}/runs/{run_id}/steps/{step}/outputs/{port}/rows"): "user",
    ("POST", "/api/rule-sets/check"): "viewer",
    ("POST", "/api/rule-sets/try"): "user",
    ("GET", "/api/rule-sets"): "viewer",
    ("GET", "/api/rule-sets/{name}"): "viewer",
    ("PUT", "/api/rule-sets/{name}"): "user",
    ("DELETE", "/api/rule-sets/{name}"): "user",
    ("GET", "/api/rule-sets/{name}/versions"): "viewer",
    ("GET", "/api/rule-sets/{name}/versions/{number}"): "viewer",
    ("GET", "/api/decisions"): "user",
    ("GET", "/api/models"): "viewer",
    ("GET", "/api/models/{name}"): "viewer",
    ("GET", "/api/models/{name}/versions/{version}/lineage"): "viewer",
    ("GET", "/api/models/{name}/versions/{version}/source"): "viewer",
    ("GET", "/api/models/{name}/versions/{version}/verdict"): "viewer",
    ("GET", "/api/models/{name}/nights"): "viewer",
    ("POST", "/api/models/{name}/answers"): "user",
    ("POST", "/api/models/{name}/rollback"): "op",
    ("GET", "/api/pipelines/{dag_id}/runs/{run_id}/metrics"): "viewer",
    ("GET", "/api/labelling"): "viewer",
    ("POST", "/api/labelling"): "user",
    ("GET", "/api/labelling/{name}"): "viewer",
    ("POST", "/api/labelling/{name}/rows"): "user",
    ("POST", "/api/labelling/{name}/labels"): "user",
    ("POST", "/api/pipelines/{dag_id}/runs/{run_id}/steps/{step}/labelling"): "user",
}
VALUES = {
    "dag_id": "topics",
    "number": "1",
    "version": "1",
    "digest": "0" * 64,
    "name": "one_click",
    "run_id": "nothing",
    "step": "raw",
    "port": "table",
}


def routes_of(app: FastAPI) -> set[tuple[str, str]]:
    return {
        (method, route.path)
        for route in app.routes
        if isinstance(route, APIRoute)
        for method in route.methods
    }


def test_the_table_has_every_route() -> None:
    from modelmill_plugin.app import create_app

    assert routes_of(create_app()) == set(ROUTES)


@pytest.mark.parametrize("role", ROLES)
def test_every_route_answers_each_role_as_the_table_says(role: str, call: Call, folder: Path) -> None:
    caller = call(role)
    for (method, path), lowest in ROUTES.items():
        answer = caller(method, path.removeprefix("/api").format(**VALUES), None)
        if role == "anonymous":
            expected = {401}
        elif ROLES.index(role) < ROLES.index(lowest):
            expected = {403}
        else:  # let in: whatever the route itself says of these values
            expected = {200, 404, 409, 422, 428}
        assert answer.status_code in expected, (role, method, path, answer.text)
        assert answer.status_code < 400 or answer.json()["message"]


@pytest.mark.parametrize(("role", "may_edit"), [("viewer", False), ("user", True)])
def test_the_pages_are_told_what_a_user_may_do(role: str, may_edit: bool, call: Call, folder: Path) -> None:
    shown = call(role)("GET", "/pipelines/topics").json()
    assert (shown["may_edit"], shown["may_run"]) == (may_edit, may_edit)
    assert call(role)("GET", "/catalogue").json()["may_create"] == may_edit


@pytest.mark.parametrize(
    "path",
    [
        "/labelling",
        "/labelling/q/rows",
        "/labelling/q/labels",
        "/tables",
        "/templates/rule_gate/sample",
        "/models/m/answers",
    ],
)
def test_a_right_on_one_pipeline_is_none_on_all(
    path: str, call: Call, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever names a pipeline of theirs in the query may no more than without it."""
    from airflow.api_fastapi.auth.managers.models.resource_details import DagDetails
    from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager

    def only_topics(self: Any, *, details: DagDetails | None = None, **_: Any) -> bool:
        return details is not None and details.id == "topics"

    monkeypatch.setattr(SimpleAuthManager, "is_authorized_dag", only_topics)
    refused = call("user")("POST", f"{path}?dag_id=topics", {})
    assert (refused.status_code, "in general" in refused.json()["message"]) == (403, True)


def test_the_pipeline_in_the_path_counts_and_no_other(
    call: Call, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.api_fastapi.auth.managers.models.resource_details import DagDetails
    from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager

    def only_topics(self: Any, *, details: DagDetails | None = None, **_: Any) -> bool:
        return details is not None and details.id == "topics"

    monkeypatch.setattr(SimpleAuthManager, "is_authorized_dag", only_topics)
    paths = [(method, path) for method, path in ROUTES if "{dag_id}" in path]
    for method, path in paths:
        place = path.removeprefix("/api").format(**VALUES | {"dag_id": "others"})
        refused = call("user")(method, f"{place}?dag_id=topics", {"dag_id": "topics"})
        assert refused.status_code == 403, (method, path, refused.text)
    assert len(paths) >= 10


CHANGES_NOTHING = {
    "/api/check",
    "/api/diff",
    "/api/templates/{name}",
    "/api/pipelines/{dag_id}/forecast",
    "/api/rule-sets/check",
    "/api/rule-sets/try",
    "/api/models/{name}/answers",
    "/api/labelling/{name}/rows",  # they are held for a user, for ten minutes
}


def test_every_route_that_changes_something_writes_into_the_audit_log() -> None:
    from modelmill_plugin.app import create_app
    from modelmill_plugin.audit import record

    def calls(function: Any, seen: set[Any]) -> set[Any]:
        """Return the functions of the plugin that a function may call, and all that those may."""
        for name in function.__code__.co_names:
            found = function.__globals__.get(name)
            if isfunction(found) and found.__module__.startswith("modelmill_plugin") and found not in seen:
                seen.add(found)
                calls(found, seen)
        return seen

    written = {
        route.path: record in calls(route.endpoint, set())
        for route in create_app().routes
        if isinstance(route, APIRoute) and route.methods != {"GET"}
    }
    assert {path for path, recorded in written.items() if not recorded} == CHANGES_NOTHING


def test_without_a_guard_there_is_no_app(monkeypatch: pytest.MonkeyPatch) -> None:
    from modelmill_plugin import app

    router = APIRouter()

    @router.get("/open")
    def open_to_all() -> str:
        return "anybody"

    monkeypatch.setattr(app, "ROUTERS", (*app.ROUTERS, router))
    with pytest.raises(RuntimeError, match="/api/open"):
        app.create_app()


@pytest.mark.parametrize("path", ["/docs", "/redoc", "/openapi.json", "/api/nothing", "/static/../plugin.py"])
def test_nothing_else_is_there(path: str, call: Call) -> None:
    answer = call("anonymous").client.get(f"/modelmill{path}")
    assert answer.status_code == 404


def test_static_files_are_for_anybody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from starlette.testclient import TestClient

    from modelmill_plugin import app

    (tmp_path / "secret").write_text("outside")
    (tmp_path / "static").mkdir()
    (tmp_path / "static" / "canvas.js").write_text("1")
    monkeypatch.setattr(app, "STATIC", tmp_path / "static")
    client = TestClient(app.create_app())
    answer = client.get("/static/canvas.js")
    assert (answer.status_code, answer.headers["x-content-type-options"]) == (200, "nosniff")
    for path in ("/static/../secret", "/static/%2e%2e/secret", "/static/..%2fsecret", "/static/"):
        assert client.get(path).status_code == 404


def test_the_openapi_document_names_each_operation_once() -> None:
    from modelmill_plugin.app import create_app

    operations = [
        operation for path in create_app().openapi()["paths"].values() for operation in path.values()
    ]
    names = [operation["operationId"] for operation in operations]
    assert len(set(names)) == len(names) == len(ROUTES)
    assert all({"200", "401", "403", "422", "503"} <= set(operation["responses"]) for operation in operations)


def test_the_client_of_the_canvas_is_in_step() -> None:
    from modelmill_plugin.app import create_app
    from modelmill_plugin.openapi import document_digest

    first = CLIENT.read_text().partition("\n")[0]
    remedy = "run plugins/canvas/scripts/client.sh .venv/bin/python"
    assert first == f"// OpenAPI {document_digest(create_app().openapi())}", remedy


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"x-modelmill": None}, 403),
        ({"origin": "https://evil.example.org"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://airflow.example.org.evil.example.org"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"content-type": "text/plain"}, 415),
        ({"content-type": "application/x-www-form-urlencoded"}, 415),
    ],
)
def test_another_site_cannot_write(headers: dict[str, str | None], status: int, call: Call) -> None:
    client = call("admin").client
    for name, value in headers.items():
        if value is None:
            del client.headers[name]
        else:
            client.headers[name] = value
    content_type = client.headers.get("content-type", "application/json")
    answer = client.post("/modelmill/api/check", content="{}", headers={"content-type": content_type})
    assert answer.status_code == status
    assert answer.json()["kind"] == "RequestError"


def test_a_write_has_a_body(call: Call) -> None:
    client = call("admin").client
    answer = client.post("/modelmill/api/check", headers={"content-type": "application/json"})
    assert answer.status_code == 413


def test_a_cookie_alone_lets_in_and_the_shield_still_holds(call: Call, folder: Path) -> None:
    client = call("user").client
    token = client.headers.pop("authorization").removeprefix("Bearer ")
    client.cookies.set("_token", token)
    assert client.get("/modelmill/api/pipelines").status_code == 200
    assert client.post("/modelmill/api/check", json={"text": "a: 1"}).status_code == 200
    del client.headers["x-modelmill"]
    assert client.post("/modelmill/api/check", json={"text": "a: 1"}).status_code == 403


def test_every_answer_has_the_security_headers(call: Call, folder: Path) -> None:
    for answer in (call("viewer")("GET", "/pipelines"), call("anonymous")("GET", "/pipelines")):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
