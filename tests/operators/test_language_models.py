"""A language model reached by an Airflow connection: a real run against a stub, and no secret seen."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from airflow.sdk import DAG, Connection
from deltalake import write_deltalake
from demo.servers.language_model import Behaviour, LanguageModelStub

from modelmill.errors import ConfigError
from modelmill.tables.reading import read_arrow
from modelmill.tables.versions import resolve_table
from modelmill_operators.language_models import llm_environment
from modelmill_operators.waiting import EndpointTrigger

Parse = Callable[[], dict[str, DAG]]

SECRET = "canary-41d7aa-secret"

PIPELINE = """
pipeline: taught
params: {teacher: {default: teacher_llm}}
steps:
  raw: {component: delta_table, config: {uri: "PLACE/raw"}}
  labelled:
    component: label_by_llm
    inputs: {table: raw.table}
    config:
      columns: [text]
      label: topic
      labels: {sport: games, trade: markets}
      llm_connection: "${teacher}"
      asking: {model: stub-2026-11-01, concurrency: 2}
      budget: {tokens: 1000000}
      to: "PLACE/labelled"
"""


def test_a_table_is_labelled_through_a_connection_whose_secret_is_seen_nowhere(
    pipelines: Path,
    parsed: Parse,
    settings: object,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
    airflow_home: Path,
) -> None:
    (pipelines / "taught.yaml").write_text(PIPELINE.replace("PLACE", str(tmp_path)))
    texts = [f"{('goal', 'bank')[n % 2]} number {n}" for n in range(12)]
    hidden = [f"canary-column-{n}" for n in range(12)]
    write_deltalake(str(tmp_path / "raw"), pa.table({"text": texts, "hidden": hidden}))
    words = {"sport": ["goal"], "trade": ["bank"]}
    headers: list[str] = []
    bodies: list[bytes] = []

    def record(_path: str, sent: object, body: bytes) -> None:
        headers.append(json.dumps(sent))
        bodies.append(body)

    with LanguageModelStub(Behaviour(words=words, key=SECRET), record=record) as stub:
        host, port = stub.server.server_address[:2]
        teacher = Connection(
            conn_id="teacher_llm", conn_type="http", schema="http", host=str(host), port=port, password=SECRET
        )
        monkeypatch.setenv("AIRFLOW_CONN_TEACHER_LLM", teacher.as_json())
        monkeypatch.setenv("MODELMILL_LLM_URL", "http://127.0.0.1:9/of-another-account")
        run = parsed()["taught"].test()
    said = capfd.readouterr()
    states = {ti.task_id: str(ti.state) for ti in run.get_task_instances()}
    assert states == dict.fromkeys(("raw", "labelled"), "success"), said.out[-3000:]
    labelled = read_arrow(resolve_table(str(tmp_path / "labelled")))
    assert labelled.column("topic").to_pylist() == ["sport", "trade"] * 6
    assert len(bodies) == 12
    assert all(SECRET in header for header in headers)
    assert not any(b"canary" in body for body in bodies)
    assert SECRET not in said.out + said.err
    for path in [path for folder in (tmp_path, airflow_home) for path in folder.rglob("*") if path.is_file()]:
        assert SECRET.encode() not in path.read_bytes(), path


def test_the_trigger_looks_until_the_batch_has_ended(
    monkeypatch: pytest.MonkeyPatch, airflow_home: Path
) -> None:
    with LanguageModelStub(Behaviour(key=SECRET, batch_seconds=0.5)) as stub:
        host, port = stub.server.server_address[:2]
        teacher = Connection(
            conn_id="teacher_llm", conn_type="http", schema="http", host=str(host), port=port, password=SECRET
        )
        monkeypatch.setenv("AIRFLOW_CONN_TEACHER_LLM", teacher.as_json())
        stub.batches.files["file-1"] = b""
        made = stub.batches.create({"input_file_id": "file-1"})
        began = time.monotonic()
        assert _waited("teacher_llm", f"batches/{made['id']}") == [{"status": "completed"}]
        assert time.monotonic() - began > 0.4


def test_where_the_endpoint_does_not_answer_the_step_looks_itself(
    monkeypatch: pytest.MonkeyPatch, airflow_home: Path
) -> None:
    gone = Connection(conn_id="gone_llm", conn_type="http", schema="http", host="127.0.0.1", port=9)
    monkeypatch.setenv("AIRFLOW_CONN_GONE_LLM", gone.as_json())
    for connection in ("gone_llm", "unknown_llm", None):
        assert _waited(connection, "batches/b") == [{"status": ""}]


def _waited(connection: str | None, path: str) -> list[object]:
    """Return the events of a trigger that Airflow has kept and made again."""
    trigger = EndpointTrigger(connection=connection, path=path, until=["completed"], seconds=0.05)
    name, arguments = trigger.serialize()
    assert name == "modelmill_operators.waiting.EndpointTrigger"

    async def events() -> list[object]:
        return [event.payload async for event in EndpointTrigger(**arguments).run()]

    return asyncio.run(events())


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ({"host": "models.example.com"}, "https://models.example.com/v1"),
        ({"host": "http://10.0.0.1", "port": 8000}, "http://10.0.0.1:8000/v1"),
        ({"host": "https://h:8443/openai/v1/"}, "https://h:8443/openai/v1"),
        ({"host": "h", "schema": "http", "extra": '{"path": "api"}'}, "http://h/api"),
    ],
)
def test_a_connection_says_the_url(given: dict[str, object], url: str) -> None:
    found = llm_environment(Connection(conn_id="c", conn_type="http", **given))
    assert found == {"MODELMILL_LLM_URL": url, "MODELMILL_LLM_KEY": None}


def test_what_would_not_be_followed_is_refused() -> None:
    with pytest.raises(ConfigError, match="got 'aws'"):
        llm_environment(Connection(conn_id="c", conn_type="aws"))
    with pytest.raises(ConfigError, match="has a host"):
        llm_environment(Connection(conn_id="c", conn_type="http"))
    with pytest.raises(ConfigError, match="got 'pathh'; did you mean 'path'"):
        llm_environment(Connection(conn_id="c", conn_type="http", host="h", extra='{"pathh": "x"}'))
