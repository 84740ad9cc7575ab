"""One thin operator for each component: a step request, a process, its references as XComs."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from airflow.sdk import AssetAlias, BaseHook, BaseOperator, BaseOperatorLink, Param
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException
from pydantic import TypeAdapter, ValidationError

from modelmill.artifacts import VerdictRef
from modelmill.component import Config
from modelmill.errors import ConfigError, InputError
from modelmill.pipeline.conditions import unmet
from modelmill.pipeline.process import StepProcess
from modelmill.pipeline.request import StepRequest, StepResult
from modelmill.pipeline.spec import Outcome, ParamValue, ResourcesSpec, placeholders
from modelmill.registry.approval import APPROVE, REJECT, answered, needs_answer
from modelmill.settings import Settings, environment_params
from modelmill.steps.approve import ApproveConfig, ApproveInputs, approve
from modelmill_operators.assets import asset
from modelmill_operators.links import XCOM_STEP, MlflowRunLink, RegisteredModelLink
from modelmill_operators.storage import storage_environment

if TYPE_CHECKING:
    from airflow.sdk import Context


_REMEDIES: Mapping[str, str] = {
    "inputs": "an input is a reference: other_task.output['port']",
    "resources": "needs are gpus, gpu_memory_gb, share_gpu, cpus and memory_gb",
}


_CONDITIONS = TypeAdapter(dict[Outcome, VerdictRef | tuple[VerdictRef, ...]])


class StepOperator(BaseOperator):
    """Run one step of a pipeline in a process group of its own.

    The outputs are XComs: one for each output port (``task.output["model"]``), all of them together as the
    return value (port to reference), and ``modelmill_step`` with the step key and the MLflow run. An error
    that a retry cannot mend fails the task without retries.

    :param inputs: references by input port: ``other_task.output["port"]``, a reference, or a list of either.
    :param config: the component's configuration. Never rendered by Jinja; ``${name}`` stands for the value of
        the DAG parameter ``name``.
    :param component: name of the component; operators of modelmill's own components know theirs.
    :param pipeline: name under which runs are tracked; None: the DAG's id.
    :param pipeline_digest: digest of the pipeline document, for lineage; empty where there is none.
    :param storage_connection: id of the Airflow connection to the store where the tables are; the step's
        process gets its secrets as environment variables, and nothing else does. None: the worker's own.
    :param needs: what the step needs of its machine where it is not what the component says, such as
        ``{"gpus": 2}``: it is leased that many devices. Where it runs is said by ``queue``, ``pool``, ….
    :param when: what verdicts have to be for the step to run, else it is skipped: by ``accepted`` or
        ``refused`` a gate's output, or a list of them, such as ``{"refused": verdict.output["verdict"]}``.
    :param python: interpreter that runs the step; None: ``MODELMILL_PYTHON``, else the worker's own.
    :param **kwargs: as :class:`airflow.sdk.BaseOperator` takes them.
    """

    template_fields = ("inputs", "when")
    operator_extra_links: Collection[BaseOperatorLink] = (MlflowRunLink(),)

    component: str = ""
    _process: StepProcess | None = None

    def __init__(
        self,
        *,
        inputs: Mapping[str, Any] | None = None,
        config: Config | Mapping[str, Any] | None = None,
        component: str | None = None,
        pipeline: str | None = None,
        pipeline_digest: str = "",
        storage_connection: str | None = None,
        needs: ResourcesSpec | Mapping[str, Any] | None = None,
        when: Mapping[Outcome, Any] | None = None,
        python: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(multiple_outputs=True, **kwargs)
        self.inputs = inputs
        self.config = config
        self.component = component or self.component
        self.pipeline = pipeline
        self.pipeline_digest = pipeline_digest
        self.storage_connection = storage_connection
        self.needs = needs
        self.when = when
        self.python = python

    def execute(self, context: Context) -> dict[str, Any]:
        """Run the step to its end.

        :param context: Airflow's.
        :return: references, as JSON objects, by output port.
        :raises AirflowFailException: if a retry cannot help.
        :raises AirflowSkipException: if a verdict is not what ``when`` says.
        """
        self._check_conditions()
        try:
            request = self._request(context)
            python = self.python or Settings.from_environment().python
            self._process = StepProcess(request, python=python, environment=self._storage())
            result = self._process.run(self.log.info)
        except InputError as error:
            raise AirflowFailException(str(error)) from error
        context["ti"].xcom_push(key=XCOM_STEP, value=result.model_dump(mode="json", exclude={"outputs"}))
        self._emit(result, context)
        return _outputs(result)

    def on_kill(self) -> None:
        """End the step's whole process group."""
        if self._process:
            self._process.stop()

    def render_template(self, content: Any, *args: Any, **kwargs: Any) -> Any:
        """Resolve the XComs in a value and leave its texts alone: they are data, never Jinja.

        :param content: the value of a template field, or a part of it.
        :param *args: as Airflow hands them.
        :param **kwargs: as Airflow hands them.
        :return: the value with its XComs resolved.
        """
        return content if isinstance(content, str) else super().render_template(content, *args, **kwargs)

    def _check_conditions(self) -> None:
        try:
            conditions = _CONDITIONS.validate_python(self.when or {})
        except ValidationError as error:
            raise AirflowFailException(
                f"when of task {self.task_id!r} has verdicts by 'accepted' and 'refused'; {error}"
            ) from error
        for wanted, verdicts in conditions.items():
            for verdict in (verdicts,) if isinstance(verdicts, VerdictRef) else verdicts:
                reason = unmet(wanted, verdict)
                if reason:
                    self.log.info("skipped: %s", reason)
                    raise AirflowSkipException(reason)

    def _emit(self, result: StepResult, context: Context) -> None:
        """Update the conditional outlets that the step names: each is an alias of the asset's name."""
        aliases = {outlet.name: outlet for outlet in self.outlets if isinstance(outlet, AssetAlias)}
        for uri in result.events:
            updated = asset(uri)
            if updated.name in aliases:
                self.log.info("updating the asset %s", updated.name)
                context["outlet_events"][aliases[updated.name]].add(updated)

    def _storage(self) -> dict[str, str | None]:
        if self.storage_connection is None:
            return {}
        return storage_environment(BaseHook.get_connection(self.storage_connection))

    def _request(self, context: Context) -> StepRequest:
        instance = context["ti"]
        config = self.config.model_dump(mode="json") if isinstance(self.config, Config) else self.config
        try:
            return StepRequest(
                pipeline=self.pipeline or instance.dag_id,
                pipeline_digest=self.pipeline_digest,
                step=instance.task_id,
                component=self.component,
                config=dict(config or {}),
                params=_params(config, context["params"]),
                inputs={name: value for name, value in (self.inputs or {}).items() if value is not None},
                resources=self.needs or {},
                origin={
                    name: str(getattr(instance, name))
                    for name in ("dag_id", "run_id", "task_id", "try_number")
                },
            )
        except ValidationError as error:
            detail = error.errors(include_url=False)[0]
            raise ConfigError(
                f"{'.'.join(map(str, detail['loc']))} of task {instance.task_id!r}: {detail['msg']}",
                got=detail["input"],
                remedy=_REMEDIES.get(str(detail["loc"][0]), ""),
            ) from error


def _params(config: Mapping[str, Any] | None, given: Mapping[str, Any]) -> dict[str, ParamValue]:
    """Return the values of the parameters that a configuration names; the worker's environment fills gaps."""
    environment = environment_params()
    values: dict[str, ParamValue] = {}
    for name in sorted(placeholders(config) & set(given)):
        value = given[name]
        values[name] = environment.get(name) if value is None else value
    return values


def _outputs(result: StepResult) -> dict[str, Any]:
    return {port: reference.model_dump(mode="json") for port, reference in result.outputs.items()}


class IngestOperator(StepOperator):
    """Load files into a Delta table, each exactly once."""

    component = "ingest"


class DeltaTableOperator(StepOperator):
    """Pin a Delta table at a version."""

    component = "delta_table"


class BuildDatasetOperator(StepOperator):
    """Make a dataset of a table."""

    component = "build_dataset"


class LabelRowsOperator(StepOperator):
    """Label rows by rules."""

    component = "label_rows"


class RankLabelErrorsOperator(StepOperator):
    """List the rows whose label is probably wrong."""

    component = "rank_label_errors"


class FineTuneOperator(StepOperator):
    """Fine-tune a pretrained encoder: the teacher."""

    component = "fine_tune"


class TrunkOperator(StepOperator):
    """Export an encoder that many signals share."""

    component = "trunk"


class TrainHeadsOperator(StepOperator):
    """Train a head for each label column, all in one pass."""

    component = "train_heads"


class PickSignalOperator(StepOperator):
    """Take one signal's model out of many."""

    component = "pick_signal"


class DistillOperator(StepOperator):
    """Distil a student out of a teacher."""

    component = "distill"


class DistillSignalsOperator(StepOperator):
    """Distil one student with many heads out of several teachers."""

    component = "distill_signals"


class PruneOperator(StepOperator):
    """Take the units that matter least out of a model, and let it recover."""

    component = "prune"


class QuantizeOperator(StepOperator):
    """Export a model to ONNX and quantise it."""

    component = "quantize"


class CompressOperator(StepOperator):
    """Find the model that keeps a budget: distil, prune and quantise in one step."""

    component = "compress"


class EvaluateOperator(StepOperator):
    """Measure models side by side."""

    component = "evaluate"


class GateOperator(StepOperator):
    """Compare a challenger with the champion, its parent and the baselines."""

    component = "gate"


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
        :raises AirflowFailException: if the configuration or the verdict is none.
        :raises AirflowSkipException: if a verdict is not what ``when`` says.
        :raises TaskAwaitingInput: where somebody is asked.
        """
        self._check_conditions()
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
        from modelmill.pipeline.runner import checked_config, checked_inputs

        try:
            request = self._request(context)
            config = checked_config(approve, request)
            inputs = checked_inputs(approve, request)
        except InputError as error:
            raise AirflowFailException(str(error)) from error
        return ApproveConfig.model_validate(config), ApproveInputs.model_validate(inputs).verdict


class GuardOperator(StepOperator):
    """Find champions that did not come through the gate, moves left half-done, and damaged files."""

    component = "guard"


class PromoteOperator(StepOperator):
    """Register a challenger that passed the gate and make it the champion."""

    component = "promote"
    operator_extra_links = (MlflowRunLink(), RegisteredModelLink())


class UseChampionOperator(StepOperator):
    """Take the model that is in use, and the dataset that it learned from."""

    component = "use_champion"


class DeployOperator(StepOperator):
    """Say what a service should serve, and wait until it does."""

    component = "deploy"


class MonitorOperator(StepOperator):
    """Compare a scored table with the training data.

    In Python, ``outlets=[conditional_asset("modelmill-drift://NAME")]`` makes an alarm update the asset.
    """

    component = "monitor"


class ScoreTableOperator(StepOperator):
    """Score a table with a model."""

    component = "score_table"


class DecideOperator(StepOperator):
    """Decide on the rows of a table by a rule set."""

    component = "decide"


class TryRulesOperator(StepOperator):
    """Try a rule set on a table before it is used."""

    component = "try_rules"


class SignalStudentsOperator(StepOperator):
    """Make static students of the model signals of a rule set."""

    component = "signal_students"


class TierRulesOperator(StepOperator):
    """Ask the cheap models of a rule set first."""

    component = "tier_rules"


class GateRulesOperator(StepOperator):
    """Compare a rule set with the one in use."""

    component = "gate_rules"


OPERATORS: Mapping[str, type[StepOperator]] = MappingProxyType(
    {
        operator.component: operator
        for operator in (
            IngestOperator,
            DeltaTableOperator,
            BuildDatasetOperator,
            LabelRowsOperator,
            RankLabelErrorsOperator,
            FineTuneOperator,
            TrunkOperator,
            TrainHeadsOperator,
            PickSignalOperator,
            DistillOperator,
            DistillSignalsOperator,
            PruneOperator,
            QuantizeOperator,
            CompressOperator,
            EvaluateOperator,
            GateOperator,
            ApproveOperator,
            GuardOperator,
            PromoteOperator,
            UseChampionOperator,
            ScoreTableOperator,
            DeployOperator,
            MonitorOperator,
            DecideOperator,
            TryRulesOperator,
            SignalStudentsOperator,
            TierRulesOperator,
            GateRulesOperator,
        )
    }
)
"""Operator of each of modelmill's own components; for another component: ``StepOperator(component=…)``."""


class InvalidPipelineOperator(BaseOperator):
    """Stands for a pipeline file that breaks a rule: fails, and says what has to be mended.

    :param problems: one line each.
    :param **kwargs: as :class:`airflow.sdk.BaseOperator` takes them.
    """

    ui_color = "#fee2e2"

    def __init__(self, *, problems: tuple[str, ...], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.problems = problems

    def execute(self, context: Context) -> None:  # noqa: ARG002 (the caller fixes the signature)
        """Fail without retries.

        :param context: Airflow's.
        :raises AirflowFailException: always, with every problem.
        """
        raise AirflowFailException("; ".join(self.problems))
