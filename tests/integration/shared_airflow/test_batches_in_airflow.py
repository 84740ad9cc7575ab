"""A batch of a language model in a real Airflow: the task is deferred, and no worker has it meanwhile."""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import write_deltalake
from demo.servers import LocalAirflow
from demo.servers.language_model import Behaviour, LanguageModelStub

from modelmill.tables.reading import read_arrow
from modelmill.tables.versions import resolve_table

pytestmark = pytest.mark.airflow

DAG_FILE = """
from modelmill_operators.loader import load_pipelines
globals().update(load_pipelines("FOLDER"))  # a file for Airflow and its DAG parser
"""
PIPELINE = """
pipeline: taught
steps:
  raw: {component: delta_table, config: {uri: "PLACE/raw"}}
  labelled:
    component: label_by_llm
    inputs: {table: raw.table}
    config:
      columns: [text]
      label: topic
      labels: {sport: games, trade: markets}
      llm_connection: teacher
      asking: {model: stub-2026-11-01, batch: {poll_seconds: 1}}
      budget: {tokens: 1000000}
      to: "PLACE/labelled"
"""
SECRET = "canary-7c13-secret"


def test_the_task_is_deferred_until_the_batch_has_ended(airflow: LocalAirflow, tmp_path: Path) -> None:
    write_deltalake(str(tmp_path / "raw"), pa.table({"text": ["a goal", "a bank", "goal after goal"]}))
    (tmp_path / "pipelines").mkdir()
    (tmp_path / "pipelines/taught.yaml").write_text(PIPELINE.replace("PLACE", str(tmp_path)))
    (airflow.dags_folder / "taught.py").write_text(DAG_FILE.replace("FOLDER", str(tmp_path / "pipelines")))
    words = {"sport": ["goal"], "trade": ["bank"]}
    # It ends when the test says so.
    with (
        LanguageModelStub(Behaviour(words=words, key=SECRET, batch_seconds=1e9)) as stub,
        closing(airflow.client()) as client,
    ):
        host, port = stub.server.server_address[:2]
        connection = {
            "connection_id": "teacher",
            "conn_type": "http",
            "schema": "http",
            "host": str(host),
            "port": port,
            "password": SECRET,
        }
        client.call("POST", "/connections", json=connection)
        client.wait_for_dag("taught")
        client.unpause("taught")
        run_id = client.trigger("taught")
        deadline = time.monotonic() + 300
        while stub.bill.looks < 3 and time.monotonic() < deadline:
            time.sleep(0.2)
        assert client.states("taught", run_id)["labelled"] == "deferred"
        assert stub.bill.looks >= 3
        assert stub.bill.requests == 2  # a file, and a batch
        stub.batches.seconds = 0.0
        assert client.wait("taught", run_id) == "success", client.log("taught", run_id, "labelled")
        log = client.log("taught", run_id, "labelled")
    assert "waits for a batch of the language model, and looks every 1 s" in log
    assert "the step goes on: completed" in log
    assert SECRET not in log
    labelled = read_arrow(resolve_table(str(tmp_path / "labelled")))
    assert labelled.column("topic").to_pylist() == ["sport", "trade", "sport"]
