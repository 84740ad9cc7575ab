"""Airflow operators over modelmill's steps, and the loader of pipeline files.

::

    from modelmill_operators import BuildDatasetOperator, DeltaTableOperator, FineTuneOperator

    raw = DeltaTableOperator(task_id="raw", config=DeltaTableConfig(uri="/data/news"))
    dataset = BuildDatasetOperator(
        task_id="dataset",
        inputs={"table": raw.output["table"]},
        config=BuildDatasetConfig(text="text", labels=("topic",)),
    )
    teacher = FineTuneOperator(
        task_id="teacher",
        inputs={"dataset": dataset.output["dataset"]},
        config=FineTuneConfig(base_model="/models/minilm"),
    )

Every component has an operator: see :mod:`modelmill_operators.operators`. Nothing here imports a library that
trains, scores or tracks: that happens in the step's own process.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

# What editors and type checkers read is __init__.pyi: scripts/operators_stub.py writes it.
_MODULES = {
    "DeltaTableTrigger": "triggers",
    "RollbackOperator": "rollback",
    "StepOperator": "step",
    "conditional_asset": "assets",
    "operator_for": "operators",
    "watched_table": "assets",
}


def __getattr__(name: str) -> Any:
    # Provider discovery imports this package before Airflow is configured: the operators wait.
    if name in _MODULES or name.endswith("Operator"):
        return getattr(import_module(f"{__name__}.{_MODULES.get(name, 'operators')}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    from modelmill_operators import operators

    return sorted([*globals(), *_MODULES, *dir(operators)])
