"""What a run of a past date leaves alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modelmill.pipeline.catalogue import component_named


def backfill_skips(component: str, context: Mapping[str, Any]) -> str | None:
    """Return why a run does not start a component.

    :param component: name of the component.
    :param context: Airflow's.
    :return: None unless the run is of a backfill and the component changes what is in use today.
    """
    if component_named(component).live and getattr(context.get("dag_run"), "run_type", "") == "backfill":
        return f"the run is of a backfill, and {component} changes what is in use"
    return None
