"""Thin Airflow operators over modelmill, and the loader that turns pipeline files into DAGs.

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

Nothing here imports a library that trains, scores or tracks: that happens in the step's own process.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from modelmill_operators.assets import conditional_asset, watched_table
    from modelmill_operators.operators import (
        OPERATORS,
        ApproveOperator,
        BuildDatasetOperator,
        CompressOperator,
        DecideOperator,
        DeltaTableOperator,
        DeployOperator,
        DistillOperator,
        DistillSignalsOperator,
        EvaluateOperator,
        FineTuneOperator,
        GateOperator,
        GateRulesOperator,
        GuardOperator,
        IngestOperator,
        LabelRowsOperator,
        MonitorOperator,
        PickSignalOperator,
        PromoteOperator,
        PruneOperator,
        QuantizeOperator,
        RankLabelErrorsOperator,
        ScoreTableOperator,
        SignalStudentsOperator,
        StepOperator,
        TierRulesOperator,
        TrainHeadsOperator,
        TrunkOperator,
        TryRulesOperator,
        UseChampionOperator,
    )
    from modelmill_operators.rollback import RollbackOperator
    from modelmill_operators.triggers import DeltaTableTrigger

__all__ = [
    "OPERATORS",
    "ApproveOperator",
    "BuildDatasetOperator",
    "CompressOperator",
    "DecideOperator",
    "DeltaTableOperator",
    "DeltaTableTrigger",
    "DeployOperator",
    "DistillOperator",
    "DistillSignalsOperator",
    "EvaluateOperator",
    "FineTuneOperator",
    "GateOperator",
    "GateRulesOperator",
    "GuardOperator",
    "IngestOperator",
    "LabelRowsOperator",
    "MonitorOperator",
    "PickSignalOperator",
    "PromoteOperator",
    "PruneOperator",
    "QuantizeOperator",
    "RankLabelErrorsOperator",
    "RollbackOperator",
    "ScoreTableOperator",
    "SignalStudentsOperator",
    "StepOperator",
    "TierRulesOperator",
    "TrainHeadsOperator",
    "TrunkOperator",
    "TryRulesOperator",
    "UseChampionOperator",
    "conditional_asset",
    "watched_table",
]

_ELSEWHERE = {
    "RollbackOperator": "modelmill_operators.rollback",
    "DeltaTableTrigger": "modelmill_operators.triggers",
    "conditional_asset": "modelmill_operators.assets",
    "watched_table": "modelmill_operators.assets",
}


def __getattr__(name: str) -> Any:
    # Provider discovery imports this package before Airflow is configured: the operators wait.
    if name in __all__:
        return getattr(import_module(_ELSEWHERE.get(name, "modelmill_operators.operators")), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
