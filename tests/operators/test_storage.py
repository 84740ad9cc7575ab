"""Tables in a store that speaks S3, reached by an Airflow connection: a real server, and no secret seen."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from airflow.sdk import DAG, Connection
from deltalake import write_deltalake
from demo.servers import LocalObjectStore

from modelmill.errors import ConfigError, PipelineError, TableError, TransientError
from modelmill.pipeline.validation import parse_pipeline
from modelmill.tables.reading import read_arrow
from modelmill.tables.versions import resolve_table
from modelmill_operators.storage import storage_environment

Parse = Callable[[], dict[str, DAG]]

SECRET = "canary-5f0c3d-secret"
TOKEN = "canary-77ab1e-token"

PIPELINE = """
pipeline: lake
storage_connection: lake_store
steps:
  raw: {component: delta_table, config: {uri: "s3://lake/raw table"}}
  landed: {component: ingest, config: {source: "FILES", to: "s3://lake/landed"}}
  dataset:
    component: build_dataset
    inputs: {table: raw.table}
    config: {key: id, text: text, labels: [topic], to: "s3://lake/dataset"}
"""


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of an S3 server, in a process of its own: delta-rs holds the interpreter's lock while it waits."""
    with LocalObjectStore(tmp_path_factory.mktemp("store"), buckets=("lake",)) as store:
        yield store.url


def connection(endpoint: str) -> Connection:
    extra = json.dumps({"endpoint_url": endpoint, "region_name": "us-east-1", "aws_session_token": TOKEN})
    return Connection(conn_id="lake_store", conn_type="aws", login="keyid", password=SECRET, extra=extra)


def set_environment(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str | None]) -> None:
    for name, value in variables.items():
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)


def rows(count: int) -> pa.Table:
    return pa.Table.from_pylist(
        [{"id": str(n), "text": f"text number {n}", "topic": "ab"[n % 2]} for n in range(count)]
    )


def test_a_pipeline_works_in_the_store_and_its_secret_is_seen_nowhere(
    endpoint: str,
    pipelines: Path,
    parsed: Parse,
    settings: object,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
    airflow_home: Path,
) -> None:
    (tmp_path / "a.jsonl").write_text('{"a": 1}\n{"a": 2}\n')
    (pipelines / "lake.yaml").write_text(PIPELINE.replace("FILES", str(tmp_path / "a.jsonl")))
    with monkeypatch.context() as patch:
        set_environment(patch, storage_environment(connection(endpoint)))
        write_deltalake("s3://lake/raw table", rows(60))
    monkeypatch.setenv("AIRFLOW_CONN_LAKE_STORE", connection(endpoint).as_json())
    monkeypatch.setenv("AWS_SESSION_TOKEN", "of another account")
    run = parsed()["lake"].test()
    said = capfd.readouterr()
    states = {ti.task_id: str(ti.state) for ti in run.get_task_instances()}
    assert states == dict.fromkeys(("raw", "landed", "dataset"), "success"), said.out[-3000:]
    with monkeypatch.context() as patch:
        set_environment(patch, storage_environment(connection(endpoint)))
        assert read_arrow(resolve_table("s3://lake/dataset")).num_rows == 60
        assert read_arrow(resolve_table("s3://lake/landed")).num_rows == 2
    seen = [path for folder in (tmp_path, airflow_home) for path in folder.rglob("*") if path.is_file()]
    assert any(
        path.suffix == ".db" for path in seen
    )  # XComs are in Airflow's, parameters and tags in MLflow's
    for secret in (SECRET, TOKEN):
        assert secret not in said.out + said.err
        for path in seen:
            assert secret.encode() not in path.read_bytes(), path


def test_a_table_that_is_not_there_is_told_from_a_store_that_is_not(
    endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_environment(monkeypatch, storage_environment(connection(endpoint)))
    with pytest.raises(TableError, match="readable Delta table"):
        resolve_table("s3://lake/nothing")
    set_environment(monkeypatch, storage_environment(connection("http://127.0.0.1:9")))
    with pytest.raises(TransientError, match="store must answer") as caught:
        resolve_table("s3://lake/nothing")
    assert str(caught.value).isprintable()


def test_what_a_connection_does_not_say_is_not_taken_from_the_worker() -> None:
    keys = Connection(conn_id="c", conn_type="aws", login="id", password="secret")
    variables = storage_environment(keys)
    assert variables["AWS_ACCESS_KEY_ID"] == "id"
    assert variables["AWS_SESSION_TOKEN"] is variables["AWS_ENDPOINT_URL"] is variables["AWS_PROFILE"] is None
    role = Connection(conn_id="c", conn_type="aws", extra='{"region_name": "eu-central-1"}')
    assert storage_environment(role) == {"AWS_REGION": "eu-central-1", "AWS_DEFAULT_REGION": "eu-central-1"}


def test_what_would_not_be_followed_is_refused() -> None:
    with pytest.raises(ConfigError, match="got 'http'"):
        storage_environment(Connection(conn_id="c", conn_type="http"))
    assumed = Connection(
        conn_id="c", conn_type="aws", login="i", extra='{"role_arn": "arn:aws:iam::1:role/x"}'
    )
    with pytest.raises(ConfigError, match="got 'role_arn'"):
        storage_environment(assumed)


def test_a_pipeline_names_a_connection_and_never_a_uri() -> None:
    assert parse_pipeline(PIPELINE.replace("FILES", "/landing")).storage_connection == "lake_store"
    with pytest.raises(PipelineError, match="storage_connection"):
        parse_pipeline(PIPELINE.replace("lake_store", "aws://id:secret@"))
