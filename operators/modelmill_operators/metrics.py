"""Metrics of steps, sent where Airflow's own go: ``[metrics]`` says whether, and to StatsD, Datadog or OTLP.

Nothing is sent, and nothing computed for it, while none of Airflow's backends is on. As with Airflow's own
metrics, tags say which task a value is of; since plain StatsD has no tags, the same goes under a name that
ends with them, unless ``[metrics] legacy_names_on`` is off.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from importlib import import_module
from types import ModuleType

from airflow.sdk.configuration import conf

from modelmill.artifacts import CHALLENGER, VerdictRef
from modelmill.pipeline.request import StepResult
from modelmill.system.usage import SECONDS

WORKER, TRIGGERER = "airflow.sdk.observability.stats", "airflow.observability.stats"
"""Airflow's module that sends metrics: a task's process has another one than its servers."""

_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_-]")
_BACKENDS = ("statsd_on", "statsd_datadog_enabled", "otel_on")


def is_on() -> bool:
    """Return whether Airflow sends metrics anywhere."""
    return any(conf.getboolean("metrics", name, fallback=False) for name in _BACKENDS)


def send_metrics(
    result: StepResult, *, component: str, dag_id: str, task_id: str, where: str = WORKER
) -> None:
    """Send what a step's result tells. Names and units: docs/production.md.

    :param result: what the step has yielded.
    :param component: what it runs.
    :param dag_id: the DAG.
    :param task_id: the task.
    :param where: :data:`WORKER` or :data:`TRIGGERER`.
    """
    if not is_on():
        return
    sender = _Sender(import_module(where), component, dag_id, task_id)
    sender.count("modelmill.step.reused" if result.reused else "modelmill.step.run")
    if not result.reused:
        _send_work(result, sender)
    for verdict in (one for one in result.outputs.values() if isinstance(one, VerdictRef)):
        sender.gauge("modelmill.gate.passed", float(verdict.passed), model=verdict.name)
        for name, value in result.figures.items():
            if name.startswith(CHALLENGER):
                metric = _NOT_IN_NAMES.sub("_", name.removeprefix(CHALLENGER))
                sender.gauge(f"modelmill.gate.challenger.{metric}", value, model=verdict.name)


def _send_work(result: StepResult, sender: _Sender) -> None:
    """Send what a step that ran has taken, read and written."""
    if SECONDS in result.figures:
        sender.timing("modelmill.step.duration", result.figures[SECONDS] * 1000)
    read = [table.rows_read for table in result.tables if table.rows_read is not None]
    added = [table.added.rows for table in result.tables if table.added and table.added.rows is not None]
    if read:
        sender.gauge("modelmill.step.rows_read", sum(read))
    if added:
        sender.gauge("modelmill.step.rows_written", sum(added))


class _Sender:
    """Airflow's functions, with the tags of a task."""

    def __init__(self, stats: ModuleType, component: str, dag_id: str, task_id: str) -> None:
        self._stats = stats
        self._tags = {"dag_id": dag_id, "task_id": task_id, "component": component}
        self._named = conf.getboolean("metrics", "legacy_names_on", fallback=True)

    def count(self, name: str) -> None:
        self._send(self._stats.incr, name, {})

    def timing(self, name: str, milliseconds: float) -> None:
        self._send(self._stats.timing, name, {}, milliseconds)

    def gauge(self, name: str, value: float, **tags: str) -> None:
        self._send(self._stats.gauge, name, tags, value)

    def _send(self, send: Callable[..., None], name: str, more: Mapping[str, str], *value: float) -> None:
        tags = {**self._tags, **more}
        send(name, *value, tags=tags)
        if self._named:
            # A dot is a level of StatsD's names: Airflow's own legacy names have two underscores for it, too.
            place = [tags[key].replace(".", "__") for key in ("dag_id", "task_id")]
            send(".".join((name, *place)), *value)
