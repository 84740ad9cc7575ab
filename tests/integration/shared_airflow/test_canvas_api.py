"""The plugin's API in a real Airflow: saved, parsed, run, watched, run again from a step."""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from demo.servers import AirflowClient, LocalAirflow

from modelmill.settings import MODEL_TRAINING

pytestmark = pytest.mark.airflow

FLOW = """\
pipeline: flow  # two steps
steps:
  first: {component: count, config: {journal: JOURNAL}}
  second: {component: count, inputs: {table: first.table}, config: {journal: JOURNAL}}
"""


class Browser:
    """Calls the plugin as the canvas does: with the cookie, the header and the origin of Airflow's page.

    :param airflow: the server.
    """

    def __init__(self, airflow: LocalAirflow) -> None:
        token = httpx.post(
            f"{airflow.url}/auth/token", json={"username": airflow.user, "password": airflow.password}
        ).json()["access_token"]
        self.http = httpx.Client(
            base_url=f"{airflow.url}/modelmill/api",
            cookies={"_token": token},
            headers={"x-modelmill": "1", "origin": airflow.url},
            timeout=60,
        )

    def __call__(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        answer = self.http.request(method, path, json=body, headers=names)
        assert answer.is_success, answer.text
        return answer.json()

    def close(self) -> None:
        self.http.close()

    def until(self, path: str, wanted: Any, *, timeout: float = 120) -> Any:
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            answer = self("GET", path)
            if wanted(answer):
                return answer
            time.sleep(0.3)
        raise AssertionError(f"{path} stays at {answer}")


def test_a_pipeline_is_saved_run_and_run_again(airflow: LocalAirflow, tmp_path: Path) -> None:
    with closing(airflow.client()) as client, closing(Browser(airflow)) as browser:
        client.wait_for_dag("other")
        check_saving_and_running(browser, client, tmp_path)


def check_saving_and_running(browser: Browser, client: AirflowClient, tmp_path: Path) -> None:
    text = FLOW.replace("JOURNAL", str(tmp_path / "journal"))
    saved = browser("PUT", "/pipelines/flow", {"text": text}, if_none_match="*")
    state = browser("GET", "/pipelines/flow/dag")
    assert not state["ready"]
    assert state["message"] == "waiting for Airflow to parse the pipeline: it has not parsed it yet"
    assert browser("POST", "/pipelines/flow/parse", {}) == {"asked": True, "message": ""}
    assert browser.until("/pipelines/flow/dag", lambda state: state["ready"])["message"] == ""

    started = browser("POST", "/pipelines/flow/runs", {"unpause": True})
    path = f"/pipelines/flow/runs/{started['run_id']}"
    run = browser.until(path, lambda run: run["state"] in ("success", "failed"))
    assert (run["state"], run["digest"]) == ("success", saved["digest"])
    nodes = {node["step"]: node for node in run["nodes"]}
    assert nodes["second"]["outputs"]["table"] == {"kind": "table", "uri": "/toy", "version": 0}
    assert not nodes["second"]["reused"]
    assert nodes["second"]["mlflow_url"].endswith(f"/{nodes['second']['mlflow_run']}{MODEL_TRAINING}")
    log = browser("GET", f"{path}/steps/first/log")
    assert "attempt 1 of first" in [line["text"] for line in log["lines"]]
    metrics = browser("GET", f"{path}/metrics")
    assert {step: figures["status"] for step, figures in metrics.items()} == {
        "first": "FINISHED",
        "second": "FINISHED",
    }

    # Another number for the second step: saved, parsed, and run from there in the same run.
    changed = text.replace("inputs: {table: first.table}, config: {", "&, config: {number: 5, ")
    changed = changed.replace("&", "inputs: {table: first.table}")
    saved = browser("PUT", "/pipelines/flow", {"text": changed}, if_match=f'"{saved["etag"]}"')
    browser("POST", "/pipelines/flow/parse", {})
    browser.until("/pipelines/flow/dag", lambda state: state["ready"])
    again = browser("POST", "/pipelines/flow/runs", {"mode": "from", "step": "second"})
    assert (again["run_id"], again["steps"]) == (started["run_id"], ["second"])
    run = browser.until(
        path,
        lambda run: (
            run["state"] == "success" and {n["step"]: n for n in run["nodes"]}["second"]["try_number"] == 2
        ),
    )
    nodes = {node["step"]: node for node in run["nodes"]}
    assert run["digest"] == saved["digest"]
    assert nodes["second"]["outputs"]["table"]["version"] == 5
    assert nodes["first"]["try_number"] == 1
    found = browser("GET", f"/pipelines/flow/digests/{run['digest']}")
    assert (found["number"], found["text"]) == (2, changed)
    log = client.call("GET", "/eventLogs", params={"limit": 100, "dag_id": "flow"})["event_logs"]
    events = {entry["event"] for entry in log}
    assert {"modelmill.save_pipeline", "modelmill.run_pipeline", "trigger_dag_run"} <= events
