"""The operator of the component ``approve``: it asks a person, and holds no worker while it waits."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import Param
from airflow.sdk.exceptions import AirflowFailException

from modelmill.artifacts import VerdictRef
from modelmill.errors import InputError
from modelmill.registry.approval import APPROVE, REJECT, answered, needs_answer
from modelmill.steps.approve import ApproveConfig, ApproveInputs, approve
from modelmill_operators.step import StepOperator

if TYPE_CHECKING:
    from airflow.sdk import Context


class ApproveOperator(StepOperator):
    """Ask a person whether a challenger that passed the gate is promoted.

    The question is a required action of Airflow's (human in the loop), with the gate's report in its body.
    While it waits, the task is ``awaiting_input``: no process, no slot, no triggerer. Approved or rejected,
    the task succeeds and hands the verdict on; no answer in time is a rejection.
    """

    component = "approve"

    def execute(self, context: Context) -> dict[str, Any]:
        """Ask, and leave the worker until there is an answer.

        :param context: Airflow's.
        :return: the verdict, where there is nothing to ask.
        :raises AirflowFailException: if the configuration or the verdict is not valid.
        :raises AirflowSkipException: if a verdict is not what ``when`` says, or the run is of a backfill.
        :raises TaskAwaitingInput: where somebody is asked.
        """
        self._check_conditions()
        self._check_date(context)
        from airflow.sdk.exceptions import TaskAwaitingInput
        from airflow.sdk.execution_time.hitl import upsert_hitl_detail

        config, verdict = self._asked(context)
        if not needs_answer(verdict):
            self.log.info("%s: there is nothing to approve", verdict.name)
            return {"verdict": verdict.model_dump(mode="json")}
        reason = Param("", type="string", title="Reason", description="Why. A rejection should have one.")
        upsert_hitl_detail(
            ti_id=context["ti"].id,
            options=[APPROVE, REJECT],
            subject=f"Promote a challenger of {verdict.name}?",
            body=verdict.summary or f"The gate passed `{verdict.challenger.uri}`.",
            defaults=[REJECT],
            multiple=False,
            params={"reason": reason.serialize()},
            assigned_users=[{"id": user, "name": user} for user in config.assigned_to],
        )
        self.log.info("%s: waiting for an answer, %g hours at most", verdict.name, config.timeout_hours)
        timeout = timedelta(hours=config.timeout_hours)
        raise TaskAwaitingInput(method_name="execute_complete", timeout=timeout)

    def execute_complete(self, context: Context, event: Mapping[str, Any]) -> dict[str, Any]:
        """Hand on the answer.

        :param context: Airflow's.
        :param event: the answer.
        :return: the verdict: passed, or refused with the reason.
        :raises AirflowFailException: if Airflow reports that the question failed.
        """
        if "error" in event:
            raise AirflowFailException(f"the question could not be asked: {event['error']}")
        _, verdict = self._asked(context)
        user = event.get("responded_by_user") or {}
        why = str((event.get("params_input") or {}).get("reason") or "")
        found = answered(
            verdict,
            approved=list(event["chosen_options"]) == [APPROVE],
            who=str(user.get("name") or user.get("id") or "nobody"),
            why=why if user else "no answer in time",
        )
        self.log.info("%s: %s", verdict.name, found.approved_by or found.reasons[-1])
        return {"verdict": found.model_dump(mode="json")}

    def _asked(self, context: Context) -> tuple[ApproveConfig, VerdictRef]:
        from modelmill.pipeline.checked_request import checked_config, checked_inputs

        try:
            request = self._request(context)
            config = checked_config(approve, request)
            inputs = checked_inputs(approve, request)
        except InputError as error:
            raise AirflowFailException(str(error)) from error
        return ApproveConfig.model_validate(config), ApproveInputs.model_validate(inputs).verdict
