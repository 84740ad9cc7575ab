"""What the plugin registers, as Airflow's own plugin manager sees it."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

HEAVY = {"torch", "transformers", "pyspark", "mlflow", "deltalake", "pandas", "fastapi"}
SCRIPT = """
import json, sys
import airflow.plugins_manager
before = set(sys.modules)
import modelmill_plugin.plugin
loaded = sorted({name.partition(".")[0] for name in set(sys.modules) - before})
from airflow.plugins_manager import get_plugin_info
[info] = [info for info in get_plugin_info() if info["name"] == "modelmill"]
print(json.dumps([info["external_views"], info["react_apps"], loaded]))
"""


def plugin_info(tracking_uri: str | None) -> tuple[list[dict[str, str]], list[dict[str, str]], list[str]]:
    environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    if tracking_uri is not None:
        environment["MLFLOW_TRACKING_URI"] = tracking_uri
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    views, apps, loaded = json.loads(done.stdout.splitlines()[-1])
    return views, apps, loaded


def test_the_navigation_leads_to_mlflow() -> None:
    views, _, loaded = plugin_info("https://mlflow.example.org")
    assert views == [{"name": "MLflow", "href": "https://mlflow.example.org", "destination": "nav"}]
    assert HEAVY.isdisjoint(loaded)


def test_the_canvas_has_its_places_under_one_name() -> None:
    _, apps, _ = plugin_info(None)
    assert [app["destination"] for app in apps] == ["nav", "dag", "dag_run"]
    # Under the name Airflow keeps the bundle: it is loaded once, whichever place is opened first.
    assert {app["name"] for app in apps} == {"modelmill"}
    assert {app["bundle_url"] for app in apps} == {"modelmill/static/canvas.js"}


@pytest.mark.parametrize("tracking_uri", [None, "sqlite:////data/mlflow.db", "javascript:alert(1)"])
def test_without_a_server_there_is_no_such_item(tracking_uri: str | None) -> None:
    assert plugin_info(tracking_uri)[0] == []


def test_a_scheduler_imports_the_loader_for_its_workers_and_nobody_else_does() -> None:
    script = """
import sys
from airflow.listeners.listener import get_listener_manager
hook = get_listener_manager().hook
hook.on_starting(component=object())
assert "modelmill_operators.loader" not in sys.modules
import airflow.jobs.scheduler_job_runner
hook.on_starting(component=object())
assert "modelmill_operators.loader" in sys.modules
assert {"torch", "pyspark", "mlflow", "deltalake"}.isdisjoint(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
