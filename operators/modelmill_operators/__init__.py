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

from modelmill_operators.operators import (
    OPERATORS,
    BuildDatasetOperator,
    DeltaTableOperator,
    DistillOperator,
    EvaluateOperator,
    FineTuneOperator,
    GateOperator,
    IngestOperator,
    PromoteOperator,
    QuantizeOperator,
    ScoreTableOperator,
    StepOperator,
)

__all__ = [
    "OPERATORS",
    "BuildDatasetOperator",
    "DeltaTableOperator",
    "DistillOperator",
    "EvaluateOperator",
    "FineTuneOperator",
    "GateOperator",
    "IngestOperator",
    "PromoteOperator",
    "QuantizeOperator",
    "ScoreTableOperator",
    "StepOperator",
]
