"""Nights in a real Airflow: one without changes ends in the triggerer, past ones read tables as they were."""

from __future__ import annotations

import json
import os
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import write_deltalake
from demo.servers import LocalAirflow
from demo.servers.airflow_client import AirflowClient

from modelmill.errors import ModelmillError
from modelmill.pipeline.local_run import run_pipeline
from modelmill.pipeline.validation import load_pipeline
from modelmill.settings import Settings

pytestmark = pytest.mark.airflow

DAG_FILE = """
import os
from modelmill_operators.loader import load_pipelines
os.environ |= {"AIRFLOW__MODELMILL__ASK_IN_TRIGGERER": "True", "AIRFLOW__MODELMILL__RETRIES": "0"}
globals().update(load_pipelines("FOLDER"))  # a file for Airflow and its DAG parser
"""


@pytest.fixture
def pipelines(tmp_path: Path) -> Path:
    (tmp_path / "landing").mkdir()
    (tmp_path / "landing" / "rows.jsonl").write_text('{"n": 1}\n{"n": 2}\n')
    pipelines = tmp_path / "pipelines"
    pipelines.mkdir()
    table = str(tmp_path / "table")
    load = {"source": f"{tmp_path}/landing/*.jsonl", "format": "json", "to": table}
    steps = {
        "load": {"component": "ingest", "config": load},
        "read": {"component": "delta_table", "config": {"uri": table}},
        "fresh": {"component": "delta_table", "config": {"uri": str(tmp_path / "none")}},
    }
    (pipelines / "night.json").write_text(json.dumps({"pipeline": "night", "steps": steps}))
    grown = str(tmp_path / "grown")
    for version in range(3):  # a row each day at one
        write_deltalake(grown, pa.table({"n": [version]}), mode="append")
        moment = datetime(2026, 11, 1 + version, 1, tzinfo=UTC).timestamp()
        os.utime(tmp_path / "grown" / "_delta_log" / f"{version:020d}.json", (moment, moment))
    daily = {
        "pipeline": "daily",
        "schedule": "0 2 * * *",
        "params": {"logical_date": {"description": "As the table was then"}},
        "steps": {
            "rows": {"component": "delta_table", "config": {"uri": grown, "timestamp": "${logical_date}"}}
        },
    }
    (pipelines / "daily.json").write_text(json.dumps(daily))
    return pipelines


def test_reused_steps_end_in_the_triggerer(
    airflow: LocalAirflow, pipelines: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("MODELMILL_HOME", "MLFLOW_TRACKING_URI"):
        monkeypatch.setenv(name, airflow.environment()[name])
    spec = load_pipeline(str(pipelines / "night.json"))
    with pytest.raises(ModelmillError, match="none"):  # one step fails, the others have results then
        run_pipeline(spec, settings=Settings.from_environment())
    # The processor finds a new file within seconds, and parses it in a process of its own.
    (airflow.dags_folder / "nights.py").write_text(DAG_FILE.replace("FOLDER", str(pipelines)))
    with closing(airflow.client()) as client:
        client.wait_for_dag("night")
        client.unpause("night")
        run_id = client.trigger("night")
        assert client.wait("night", run_id) == "failed"
        assert client.states("night", run_id) == {"load": "success", "read": "success", "fresh": "failed"}
        tasks = client.tasks("night", run_id)
        assert tasks["load"]["pid"] is tasks["read"]["pid"] is None  # no worker had them
        assert tasks["fresh"]["pid"] is not None
        assert client.xcom("night", run_id, "load", "modelmill_step")["reused"] is True
        assert client.xcom("night", run_id, "read")["table"]["version"] == 0
        assert "is reused" in client.log("night", run_id, "load")
        events = client.call("GET", "/assets/events", params={"source_dag_id": "night"})["asset_events"]
        assert [(event["source_task_id"], event["source_run_id"]) for event in events] == [("load", run_id)]
        assert not client.call("GET", "/importErrors")["import_errors"]
        check_that_past_nights_read_the_table_as_it_was(client)


def check_that_past_nights_read_the_table_as_it_was(client: AirflowClient) -> None:
    """Runs with the logical dates that a backfill makes: its command needs another database than SQLite."""
    client.wait_for_dag("daily")
    client.unpause("daily")
    runs = {
        day: client.call("POST", "/dags/daily/dagRuns", json={"logical_date": f"{day}T02:00:00Z"})[
            "dag_run_id"
        ]
        for day in ("2026-11-01", "2026-11-02", "2026-11-03")
    }
    read = {}
    for day, run_id in runs.items():
        assert client.wait("daily", run_id) == "success"
        read[day] = client.xcom("daily", run_id, "rows")["table"]["version"]
    assert read == {"2026-11-01": 0, "2026-11-02": 1, "2026-11-03": 2}
