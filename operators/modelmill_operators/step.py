"""The operator that runs one step of a pipeline: a request, a process, and the step's outputs as XComs."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, Never

from airflow.sdk import AssetAlias, BaseHook, BaseOperator, BaseOperatorLink
from airflow.sdk.configuration import conf
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException
from pydantic import TypeAdapter, ValidationError

from modelmill.artifacts import VerdictRef
from modelmill.component import Config
from modelmill.errors import ConfigError, InputError, WaitingError
from modelmill.pipeline.catalogue import component_named
from modelmill.pipeline.checked_request import checked_config
from modelmill.pipeline.conditions import unmet
from modelmill.pipeline.placeholders import substitute
from modelmill.pipeline.request import InputValue, StepRequest, StepResult
from modelmill.pipeline.spec import Outcome, ResourcesSpec
from modelmill.pipeline.step_forkserver import SharedStepServer, can_share
from modelmill.pipeline.step_process import StepProcess
from modelmill.pipeline.table_uses import uses
from modelmill.settings import Settings
from modelmill_operators import metrics
from modelmill_operators.assets import asset
from modelmill_operators.backfills import backfill_skips
from modelmill_operators.language_models import llm_environment
from modelmill_operators.lineage import is_listened_to, task_lineage
from modelmill_operators.links import XCOM_STEP, MlflowRunLink
from modelmill_operators.params import asked_params, run_params
from modelmill_operators.storage import storage_environment

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors.base import OperatorLineage
    from airflow.sdk import Context
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance
    from openlineage.client.event_v2 import Dataset
    from openlineage.client.generated.base import RunFacet


_REMEDIES: Mapping[str, str] = {
    "inputs": "an input is a reference: other_task.output['port']",
    "resources": "needs are gpus, gpu_memory_gb, share_gpu, cpus and memory_gb",
}


_INPUTS: TypeAdapter[dict[str, InputValue]] = TypeAdapter(dict[str, InputValue])
_CONDITIONS = TypeAdapter(dict[Outcome, VerdictRef | tuple[VerdictRef, ...]])


class StepOperator(BaseOperator):
    """Run one step of a pipeline in a process group of its own.

    The outputs are XComs: one for each output port (``task.output["model"]``), all of them together as the
    return value (port to reference), and ``modelmill_step`` with the step key and the MLflow run. An error
    that a retry cannot fix fails the task without retries.

    :param inputs: references by input port: ``other_task.output["port"]``, a reference, or a list of either.
    :param config: the component's configuration. Never rendered by Jinja; ``${name}`` stands for the value of
        the DAG parameter ``name``.
    :param component: name of the component; the operator of one component, ``FineTuneOperator``, has it.
    :param pipeline: name under which runs are tracked; None: the DAG's id.
    :param pipeline_digest: digest of the pipeline document, for lineage; empty if there is no document.
    :param storage_connection: id of the Airflow connection to the store of the tables. Only the step's
        process gets its secrets, as environment variables. None: the worker's own environment.
    :param needs: what the step needs of its machine, if it is not what the component declares, such as
        ``{"gpus": 2}``: the step leases that many devices. ``queue``, ``pool``, … say where it runs.
    :param when: verdicts on which the step runs, else it is skipped: the output of a gate, or a list of them,
        by ``accepted`` or ``refused``, such as ``{"refused": verdict.output["verdict"]}``.
    :param python: interpreter that runs the step; None: ``MODELMILL_PYTHON``, else the worker's own.
    :param **kwargs: as :class:`airflow.sdk.BaseOperator` takes them.
    """

    template_fields = ("inputs", "when")
    operator_extra_links: Collection[BaseOperatorLink] = (MlflowRunLink(),)

    component: str = ""
    _process: StepProcess | None = None
    _result: StepResult | None = None

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
        :raises AirflowSkipException: if a verdict is not what ``when`` requires, or the run is of a backfill
            and the component changes what is in use.
        """
        self._check_conditions()
        self._check_date(context)
        return self._run(context)

    def after_question(self, context: Context, event: Mapping[str, Any]) -> dict[str, Any]:
        """Go on after the triggerer has asked whether there is a result already.

        :param context: Airflow's.
        :param event: see :class:`~modelmill_operators.reuse.ReuseTrigger`.
        :return: as :meth:`execute`, with its exceptions.
        """
        if event.get("result") is None:
            return self.execute(context)
        self._check_date(context)
        result = StepResult.model_validate(event["result"])
        self.log.info("%s: run %s is reused", self.task_id, result.run_id)
        return self._end(result, context)

    def after_waiting(self, context: Context, event: Mapping[str, Any]) -> dict[str, Any]:
        """Go on after the triggerer has waited for what the step has handed to others.

        :param context: Airflow's.
        :param event: see :class:`~modelmill_operators.waiting.EndpointTrigger`.
        :return: as :meth:`execute`, with its exceptions.
        """
        del event  # the step looks itself
        return self._run(context)

    def _run(self, context: Context) -> dict[str, Any]:
        try:
            request = self._request(context)
            python = self.python or Settings.from_environment().python
            environment = self._environment(context)
            server = SharedStepServer(python) if _forks_steps() else None
            self._process = StepProcess(request, python=python, environment=environment, server=server)
            result = self._process.run(self.log.info)
        except InputError as error:
            raise AirflowFailException(str(error)) from error
        except WaitingError as error:
            self.log.info("%s: %s", self.task_id, error)
            self._wait(error, context)
        return self._end(result, context)

    def _wait(self, waiting: WaitingError, context: Context) -> Never:
        from modelmill_operators.waiting import EndpointTrigger

        trigger = EndpointTrigger(
            connection=self._llm_connection(context),
            path=waiting.path,
            until=waiting.until,
            seconds=waiting.seconds,
        )
        self.defer(trigger=trigger, method_name=self.after_waiting.__name__)

    def _end(self, result: StepResult, context: Context) -> dict[str, Any]:
        self._result = result
        instance = context["ti"]
        instance.xcom_push(key=XCOM_STEP, value=result.to_keep())
        metrics.send_metrics(
            result, component=self.component, dag_id=instance.dag_id, task_id=instance.task_id
        )
        self._emit(result, context)
        return _outputs(result)

    def get_openlineage_facets_on_start(self) -> OperatorLineage[Dataset, RunFacet]:
        """Tell Airflow's OpenLineage provider, which calls this, what the step is given."""
        return task_lineage(
            self.component, uses(component_named(self.component), None, self._given(), {}), None
        )

    def get_openlineage_facets_on_complete(
        self, task_instance: RuntimeTaskInstance
    ) -> OperatorLineage[Dataset, RunFacet]:
        """Tell Airflow's OpenLineage provider what the step has read and made.

        :param task_instance: Airflow's.
        :return: tables at their versions, and models by their digests.
        """
        result = self._result
        if result is None:  # it has failed, or ended without a process
            return self.get_openlineage_facets_on_start()
        component = component_named(self.component)
        request = self._request(task_instance.get_template_context())
        found = uses(component, checked_config(component, request), request.inputs, result.outputs)
        return task_lineage(self.component, found, result)

    def on_kill(self) -> None:
        """End the step's whole process group."""
        if self._process:
            self._process.stop()

    def render_template(self, content: Any, *args: Any, **kwargs: Any) -> Any:
        """Return a value with its XComs resolved. Its texts stay as they are: they are data, never Jinja."""
        return content if isinstance(content, str) else super().render_template(content, *args, **kwargs)

    def _given(self) -> dict[str, InputValue]:
        """Return the references among the inputs; none if one is not valid, which the step then says."""
        try:
            return _INPUTS.validate_python({k: v for k, v in (self.inputs or {}).items() if v is not None})
        except ValidationError:
            return {}

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

    def _check_date(self, context: Context) -> None:
        """Skip what a run of a past date must not change."""
        reason = backfill_skips(self.component, context)
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

    def _environment(self, context: Context) -> dict[str, str | None]:
        """Return what the step's process has beside the worker's own variables."""
        found: dict[str, str | None] = {}
        user = getattr(context.get("dag_run"), "triggering_user_name", None)
        if user:
            found["MODELMILL_USER"] = str(user)
        if self.storage_connection is not None:
            found |= storage_environment(BaseHook.get_connection(self.storage_connection))
        model = self._llm_connection(context)
        if model is not None:
            found |= llm_environment(BaseHook.get_connection(model))
        return found

    def _llm_connection(self, context: Context) -> str | None:
        """Return the connection that the configuration names, if the component has such a field."""
        field = component_named(self.component).connection
        if field is None:
            return None
        config = self.config.model_dump(mode="json") if isinstance(self.config, Config) else self.config
        named = (config or {}).get(field)
        found = substitute(named, asked_params({field: named}, run_params(context)))
        return str(found) if found else None

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
                params=asked_params(config, run_params(context)),
                inputs={name: value for name, value in (self.inputs or {}).items() if value is not None},
                resources=self.needs or {},
                origin=_origin(context),
                describe=is_listened_to() or metrics.is_on(),
            )
        except ValidationError as error:
            detail = error.errors(include_url=False)[0]
            raise ConfigError(
                f"{'.'.join(map(str, detail['loc']))} of task {instance.task_id!r}: {detail['msg']}",
                got=detail["input"],
                remedy=_REMEDIES.get(str(detail["loc"][0]), ""),
            ) from error


def _forks_steps() -> bool:
    return can_share() and bool(conf.getboolean("modelmill", "fork_steps", fallback=True))


def _origin(context: Context) -> dict[str, str]:
    """Return who asks. A run that an asset has started has no logical date."""
    instance, date = context["ti"], getattr(context.get("dag_run"), "logical_date", None)
    found = {name: str(getattr(instance, name)) for name in ("dag_id", "run_id", "task_id", "try_number")}
    if date is not None:
        found["logical_date"] = date.isoformat()
    if (index := getattr(instance, "map_index", None)) is not None and index >= 0:
        found["map_index"] = str(index)
    return found


def _outputs(result: StepResult) -> dict[str, Any]:
    return {port: reference.model_dump(mode="json") for port, reference in result.outputs.items()}
