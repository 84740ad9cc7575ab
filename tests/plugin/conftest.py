"""A real Airflow API server in this process: its own database, four users, the plugin mounted by Airflow."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

ROLES = ("viewer", "user", "op", "admin")
ORIGIN = "http://airflow.example.org"
TEXT = """\
pipeline: topics  # what it is called
description: Topics of texts
schedule: "0 2 * * *"
steps:
  raw:
    component: delta_table
    config: {uri: /data/topics}

  # the labels are reviewed
  dataset:
    component: build_dataset
    inputs: {table: raw.table}
    config: {key: id, text: text, labels: [topic]}
"""


@pytest.fixture(scope="session")
def airflow_app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FastAPI]:
    """Airflow's own app, as its API server runs it."""
    passwords = tmp_path_factory.mktemp("airflow") / "passwords.json"
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": ",".join(f"{role}:{role}" for role in ROLES),
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(passwords),
            "AIRFLOW__API_AUTH__JWT_SECRET": "of these tests " * 6,
            "AIRFLOW__API__SECRET_KEY": "another secret of these tests",
            "AIRFLOW__API__BASE_URL": ORIGIN,
            "_AIRFLOW_PROCESS_CONTEXT": "server",
        }.items():
            patch.setenv(name, value)
        passwords.write_text(json.dumps(dict.fromkeys(ROLES, "secret")))
        subprocess.run([sys.executable, "-m", "airflow", "db", "migrate"], check=True, capture_output=True)
        from airflow.api_fastapi.app import cached_app, purge_cached_app

        # Airflow's own module builds the app with exactly this call, so both are the same one.
        yield cached_app(apps=os.environ.get("AIRFLOW_API_APPS", "all"))
        purge_cached_app()


class Caller:
    """Somebody who calls the API: one of the roles, or nobody.

    :param app: Airflow's app.
    :param role: one of ``ROLES``, or ``anonymous``.
    """

    def __init__(self, app: FastAPI, role: str) -> None:
        self.role = role
        headers = {"x-modelmill": "1", "origin": ORIGIN}
        if role != "anonymous":
            from airflow.api_fastapi.app import get_auth_manager
            from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser

            token = get_auth_manager().generate_jwt(SimpleAuthManagerUser(username=role, role=role))
            headers["authorization"] = f"Bearer {token}"
        self.client = TestClient(app, base_url=ORIGIN, headers=headers, raise_server_exceptions=False)

    def __call__(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        """Call a route of the plugin; header names have ``_`` for ``-``."""
        return self.client.request(
            method,
            f"/modelmill/api{path}",
            json=body if body is not None or method == "GET" else {},
            headers={name.replace("_", "-"): value for name, value in headers.items()},
        )


@pytest.fixture
def call(airflow_app: FastAPI) -> Callable[[str], Caller]:
    """``call("viewer")("GET", "/pipelines")`` calls a route as somebody."""
    return lambda role: Caller(airflow_app, role)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The pipeline store, with one pipeline."""
    folder = tmp_path / "pipelines"
    folder.mkdir()
    (folder / "topics.yaml").write_text(TEXT)
    monkeypatch.setenv("MODELMILL_PIPELINES", str(folder))
    return folder


@pytest.fixture(name="parse")
def _parse(folder: Path, airflow_app: Any) -> Callable[[], None]:
    """What the DAG processor does with the folder."""
    from airflow.models.dag import DagModel
    from airflow.models.dagbundle import DagBundleModel
    from airflow.models.serialized_dag import SerializedDagModel
    from airflow.serialization.serialized_objects import LazyDeserializedDAG
    from airflow.utils.session import create_session

    from modelmill_operators.loader import load_pipelines

    def parse() -> None:
        with create_session() as session:
            session.merge(DagBundleModel(name="dags-folder"))
        for name, dag in load_pipelines(folder).items():
            with create_session() as session:
                if session.get(DagModel, name) is None:
                    session.add(
                        DagModel(
                            dag_id=name,
                            bundle_name="dags-folder",
                            fileloc="/x.py",
                            relative_fileloc="x.py",
                            is_stale=False,
                        )
                    )
                session.flush()
                SerializedDagModel.write_dag(
                    LazyDeserializedDAG.from_dag(dag), "dags-folder", session=session
                )

    return parse


@pytest.fixture(name="name")
def _name(folder: Path, request: pytest.FixtureRequest) -> str:
    """A pipeline of the test's own: Airflow's database is everybody's."""
    name = f"p{abs(hash(request.node.name))}"
    text = (folder / "topics.yaml").read_text().replace("pipeline: topics", f"pipeline: {name}")
    (folder / "topics.yaml").write_text(text)
    return name
