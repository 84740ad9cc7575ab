"""Ask a person before a promotion."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from modelmill.artifacts import VerdictRef
from modelmill.component import Component, Config, Inputs, StepContext
from modelmill.steps.ports import GateOutputs


class ApproveConfig(Config):
    """Ask a person before the promotion, with the gate's report: approve, or reject with a reason.

    Airflow shows the question under required actions; while it waits it holds no worker and no slot. A
    challenger that the gate refused, or that is champion already, passes on without a question.
    """

    timeout_hours: float = Field(
        24, gt=0, le=24 * 60, description="Hours after which no answer counts as a rejection."
    )
    assigned_to: tuple[str, ...] = Field(
        (), description="Ids of the Airflow users who may answer; empty: whoever may act on the DAG."
    )
    without_airflow: Literal["reject", "approve"] = Field(
        "reject", description="Answer where nobody can be asked: modelmill run."
    )


class ApproveInputs(Inputs):
    """The gate's verdict."""

    verdict: VerdictRef


def run(config: ApproveConfig, inputs: ApproveInputs, context: StepContext) -> GateOutputs:
    """Answer as the configuration says: outside Airflow nobody can be asked."""
    from modelmill.registry.approval import NOBODY, answered, needs_answer

    verdict = inputs.verdict
    if not needs_answer(verdict):
        context.log(f"{verdict.name}: there is nothing to approve")
        return GateOutputs(verdict=verdict)
    # What the rows cannot show is for a person to accept.
    approved = config.without_airflow == "approve" and verdict.passed
    context.log(
        f"{verdict.name}: nobody can be asked outside Airflow, so the challenger is "
        f"{'approved' if approved else 'rejected'} as the step's without_airflow says"
    )
    why = "nobody can be asked outside Airflow (see without_airflow)"
    return GateOutputs(verdict=answered(verdict, approved=approved, who=NOBODY, why=why))


approve = Component(
    name="approve",
    title="Approve",
    group="Release",
    config=ApproveConfig,
    inputs=ApproveInputs,
    outputs=GateOutputs,
    run=run,
    forwards="verdict",
    live=True,
)
