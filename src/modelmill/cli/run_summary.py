"""What ``modelmill run`` says at its end."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence

from modelmill.artifacts import AnyReference, VerdictRef
from modelmill.pipeline.local_run import StepEnd
from modelmill.redaction import redacted
from modelmill.settings import Settings, is_served

_FIGURES = (
    *("accuracy", "micro_f1", "r2", "macro_f1", "teacher_agreement", "rows", "rows_out", "rows_quarantined"),
    *("signals", "size_mb", "size_ratio", "alarms"),
)
"""Metrics that are shown, the most telling first; also as ``validation_NAME``, and as ``NAME/ROLE``."""
_MOST_FIGURES = 3
_SHARES = ("accuracy", "f1", "agreement")


def summary_table(ends: Sequence[StepEnd], settings: Settings) -> str:
    """Return how each step ended: its state, time, key figures, and what it made.

    :param ends: the steps, in the order in which they ran.
    :param settings: where MLflow is.
    :return: lines.
    """
    rows = [("step", "state", "time", "figures", "result")]
    for end in ends:
        figures, made = "", ""
        if end.result is not None:
            figures = _figures(_metrics(end.result.run_id, settings))
            made = ", ".join(map(_shown, end.result.outputs.values()))
        rows.append((end.step, end.state, f"{end.seconds:.1f} s" if end.seconds else "", figures, made))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return "\n".join(
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[4]]).rstrip()
        for row in rows
    )


def ends_as_json(ends: Sequence[StepEnd]) -> str:
    """Return how each step ended, as one JSON object by the steps' names."""
    return json.dumps(
        {
            end.step: {
                "state": end.state,
                "seconds": round(end.seconds, 3),
                "run_id": end.result.run_id if end.result else None,
                "outputs": end.result.model_dump(mode="json")["outputs"] if end.result else {},
            }
            for end in ends
        }
    )


def mlflow_hint(settings: Settings) -> str:
    """Return how to look at the runs and models."""
    if is_served(settings.tracking_uri):
        return f"Runs and models: {redacted(settings.tracking_uri)}"
    return f"Runs and models: mlflow ui --backend-store-uri {shlex.quote(redacted(settings.tracking_uri))}"


def _metrics(run_id: str, settings: Settings) -> Mapping[str, float]:
    from modelmill.registry.tracking import tracking_client

    try:
        metrics: Mapping[str, float] = tracking_client(settings.tracking_uri).get_run(run_id).data.metrics
    except Exception:  # the run is over: what it made is shown all the same
        return {}
    return metrics


def _figures(metrics: Mapping[str, float]) -> str:
    """Return the few metrics that say most; its own of a step that has none of them."""
    found = [
        f"{name.replace('_', ' ')} {_figure(wanted, value)}"
        for wanted in _FIGURES
        for name, value in sorted(metrics.items())
        if name in (wanted, f"validation_{wanted}") or name.startswith(f"{wanted}/")
    ]
    own = [
        f"{name.replace('_', ' ')} {_figure(name, value)}"
        for name, value in sorted(metrics.items())
        if "/" not in name
    ]
    return ", ".join((found or own)[:_MOST_FIGURES])


def _figure(name: str, value: float) -> str:
    if name.endswith(_SHARES):
        return f"{value:.2%}".replace("%", " %")
    return f"{value:,.0f}" if value == round(value, 0) else f"{value:,.3g}"


def _shown(reference: AnyReference) -> str:
    if isinstance(reference, VerdictRef):
        return "accepted" if reference.passed else f"refused: {'; '.join(reference.reasons)}"
    return str(reference)
