"""Registration of the plugin and nothing else: every Airflow component imports this, workers included."""

from __future__ import annotations

import functools
import os
from typing import Any

from airflow.plugins_manager import AirflowPlugin

from modelmill.redaction import public_url
from modelmill.settings import is_served
from modelmill_plugin import preloading


def external_views() -> list[dict[str, Any]]:
    """Return the item "MLflow" of Airflow's navigation, where the tracking server has pages to show."""
    tracking_uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    if not is_served(tracking_uri):
        return []
    return [{"name": "MLflow", "href": public_url(tracking_uri), "destination": "nav"}]


def react_apps() -> list[dict[str, Any]]:
    """Return the places of the canvas: an item of the navigation, and a tab on each DAG and run.

    All have one name: under it Airflow keeps the loaded bundle, which runs once.
    """
    app = {"name": "modelmill", "bundle_url": "modelmill/static/canvas.js"}
    return [
        {**app, "destination": "nav", "url_route": "modelmill", "nav_top_level": True},
        {**app, "destination": "dag", "url_route": "modelmill_graph"},
        {**app, "destination": "dag_run", "url_route": "modelmill_run"},
    ]


class ModelmillPlugin(AirflowPlugin):
    """modelmill in Airflow. The links on tasks come with the operators, without the plugin."""

    name = "modelmill"
    external_views = external_views()
    react_apps = react_apps()
    listeners = [preloading]

    @functools.cached_property
    def fastapi_apps(self) -> list[dict[str, Any]]:  # type: ignore[override] # read, never set
        """What the canvas asks; made when the API server asks for it, so that no other process imports it."""
        from modelmill_plugin.app import create_app

        return [{"app": create_app(), "url_prefix": "/modelmill", "name": "modelmill"}]
