"""What a run will do, before it is started."""

from __future__ import annotations

import atexit
import logging
import sys
import time
from collections.abc import Sequence
from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field

from modelmill.errors import InputError, TransientError
from modelmill.pipeline.forecast import Bill, StepForecast, forecast
from modelmill.pipeline.request import StepRequest
from modelmill.pipeline.reuse import ReuseAnswer
from modelmill.pipeline.reuse_process import ReuseProcess
from modelmill.pipeline.spec import ParamValue, PipelineSpec
from modelmill.pipeline.validation import MAX_BYTES, parse_pipeline
from modelmill.settings import Settings
from modelmill_plugin.errors import RefusedError, error_responses
from modelmill_plugin.mlflow_answers import mlflow_client
from modelmill_plugin.security import RUN, User
from modelmill_plugin.settings import pipeline_store
from modelmill_plugin.views import DagId, may

router = APIRouter(tags=["runs"])
_log = logging.getLogger(__name__)

REUSE = ReuseProcess()
"""Looks at tables and at MLflow beside the API server, with none of its secrets."""
atexit.register(REUSE.close)
SECONDS = 30.0
"""How long that may take for all steps; the process's start is most of it."""


class ForecastRequest(BaseModel):
    """What would be run."""

    text: str | None = Field(
        None,
        max_length=MAX_BYTES,
        description="The pipeline's text as it would be saved; null: the saved one.",
    )
    params: dict[str, ParamValue] = Field({}, description="Values of parameters.")


class StepPlan(BaseModel):
    """What a run will do with a step."""

    step: str = Field(description="Its id in the run: of a copy, STEP__VALUE.")
    component: str
    state: Literal["reused", "skipped", "known", "unknown"] = Field(
        description="reused: its result is there; skipped: so is a verdict on which it does not run; "
        "unknown: it has never run, so nobody knows its time."
    )
    seconds: float | None = Field(description="Median of its last runs; null unless it is known.")
    error: float | None = Field(description="Median relative error of such forecasts; null: there was none.")
    from_runs: int


class BillPlan(BaseModel):
    """What the endpoints of language models will bill."""

    unit: Literal["money", "tokens"] = Field(description="money: in the currency of the steps' prices.")
    expected: float | None = Field(
        description="By the bills of earlier runs; null: a step has had none, and tells it after its pilot."
    )
    error: float | None = Field(description="Median relative error of such forecasts; null: there was none.")
    at_most: float = Field(description="The steps' budgets together.")


class RunPlan(BaseModel):
    """What a run will do."""

    steps: list[StepPlan]
    seconds: float = Field(description="Of all steps that are known, one after the other.")
    cpu_seconds: float
    bills: list[BillPlan] = Field(description="One for each unit; empty: no step that runs is billed.")
    is_reuse_known: bool = Field(
        description="Whether it is known which results are there; else steps are said to run that may not."
    )


@router.post("/pipelines/{dag_id}/forecast", dependencies=[RUN], responses=error_responses(404))
def forecast_run(dag_id: DagId, body: ForecastRequest, user: User) -> RunPlan:
    """Return which steps would run, which are reused, and what that takes. Nothing is started."""
    spec = _spec(dag_id, body.text, user)
    settings = Settings.from_environment()
    with mlflow_client():
        found = forecast(spec, settings=settings, params=body.params, ask=_Look(spec, settings).answers)
    return RunPlan(
        steps=[_plan(step) for step in found.steps],
        seconds=found.seconds.expected,
        cpu_seconds=found.cpu_seconds.expected,
        bills=[_bill(bill) for bill in found.bills],
        is_reuse_known=found.is_reuse_known,
    )


class _Look:
    """Asks which steps have results, as the triggerer would before a run."""

    def __init__(self, spec: PipelineSpec, settings: Settings) -> None:
        # Only a step's own process gets a store's secrets, and its interpreter decides its key.
        self._can_ask = spec.storage_connection is None and settings.python == sys.executable
        self._end = time.monotonic() + SECONDS

    def answers(self, requests: Sequence[StepRequest]) -> Sequence[ReuseAnswer] | None:
        """Return an answer for each request; None if it is not known."""
        if not self._can_ask:
            return None
        try:
            return REUSE.answers(requests, seconds=max(self._end - time.monotonic(), 0.0))
        except TransientError as error:
            _log.warning("what a run would do is told without what is there already: %s", error)
            return None


def _spec(dag_id: str, text: str | None, user: User) -> PipelineSpec:
    """Return the pipeline that would run: whoever sends a text could save it and run it."""
    if text is None:
        return parse_pipeline(pipeline_store().read(dag_id).file.text)
    if not may("PUT", dag_id, user):
        raise RefusedError(403, "the user must be allowed to edit the pipeline", got=dag_id)
    spec = parse_pipeline(text)
    if spec.pipeline != dag_id:
        raise InputError("the text must be of the pipeline that is asked about", got=spec.pipeline)
    return spec


def _plan(step: StepForecast) -> StepPlan:
    return StepPlan(
        step=step.step,
        component=step.component,
        state=step.state,
        seconds=step.seconds.expected if step.seconds else None,
        error=step.seconds.error if step.seconds else None,
        from_runs=step.from_runs,
    )


def _bill(bill: Bill) -> BillPlan:
    return BillPlan(
        unit=bill.unit,
        expected=bill.expected.expected if bill.expected else None,
        error=bill.expected.error if bill.expected else None,
        at_most=bill.at_most,
    )
