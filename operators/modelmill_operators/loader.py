"""Pipeline files to DAGs. The same files always give the same DAGs: a re-parse never makes a new DAG version.

A DAG file needs two lines::

    from modelmill_operators.loader import load_pipelines

    globals().update(load_pipelines("/opt/pipelines"))  # Airflow reads this file for its DAGs

A file that breaks a rule does not hide the others. It becomes a DAG with the tag ``invalid``, unscheduled,
whose documentation lists every problem and whose only task fails with them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import (
    DAG,
    Asset,
    CronTriggerTimetable,
    Param,
    TaskGroup,
    XComArg,
    get_parsing_context,
)
from airflow.sdk.configuration import conf
from croniter import croniter
from pydantic import ValidationError

from modelmill.component import Assets, Config
from modelmill.errors import ConfigError, InputError, Problem
from modelmill.pipeline.catalogue import component_named
from modelmill.pipeline.conditions import verdict_port
from modelmill.pipeline.expansion import Expansion, expand
from modelmill.pipeline.pipeline_files import PipelineFile, free_id, read_file_of, read_folder
from modelmill.pipeline.placeholders import substitute
from modelmill.pipeline.spec import (
    Outcome,
    ParamValue,
    PipelineSpec,
    StepSpec,
    TableSchedule,
    is_absolute_uri,
)
from modelmill_operators.assets import asset, conditional_asset, watched_table
from modelmill_operators.documents import dag_document, fenced
from modelmill_operators.invalid_pipeline import InvalidPipelineOperator
from modelmill_operators.operators import operator_for
from modelmill_operators.placement import check_executor, place, pod_override
from modelmill_operators.profiles import Profiles, configured_profiles
from modelmill_operators.question import ask_first, can_ask
from modelmill_operators.step import StepOperator

INVALID_TAG = "invalid"


def load_pipelines(folder: str | Path) -> dict[str, DAG]:
    """Return a DAG for each pipeline file below a folder.

    Of two files with the same pipeline name, the one whose file name is the pipeline's name keeps it, else
    the first; the other one is reported as invalid.

    A task's process needs one task of one DAG, and says which (:func:`airflow.sdk.get_parsing_context`):
    where the file has that name, no other is read, and of its tasks there are that one and those around it.

    :param folder: local folder or fsspec URL.
    :return: DAGs by id, in the order of the ids.
    :raises ConfigError: if there is no such folder.
    """
    context = get_parsing_context()
    wanted = context.dag_id
    if wanted is not None:
        own = read_file_of(str(folder), wanted)
        if own and own.spec:
            with contextlib.suppress(Exception):  # all of them together say what is wrong
                return {wanted: build_dag(own.spec, task=context.task_id)}
    valid, invalid = read_folder(str(folder))
    dags: dict[str, DAG] = {}
    watched = {uri for file in valid.values() if file.spec for uri in _watched(file.spec)}
    for file in valid.values():
        try:
            if file.spec:
                dags[file.name] = build_dag(file.spec, watched=watched)
        except Exception as error:  # one file must not hide the others
            invalid.append(file.refused(str(error)))
    for file in sorted(invalid, key=lambda file: file.path):
        dag_id = free_id(file, dags)
        dags[dag_id] = invalid_dag(dag_id, file)
    return {dag_id: dags[dag_id] for dag_id in sorted(dags)}


def build_dag(spec: PipelineSpec, *, watched: Iterable[str] = (), task: str | None = None) -> DAG:
    """Return the DAG of a pipeline.

    :param spec: a valid pipeline.
    :param watched: asset URIs of the tables that other pipelines wait for.
    :param task: the only task that will run, which needs few others. None, or one that the pipeline does not
        have: all of them are there.
    :return: the DAG.
    :raises ConfigError: if its schedule names no times, or a table whose parameter has no value.
    """
    defaults = spec.param_values()
    # Airflow takes an asset's watchers from whatever names it last: so all that name it have to have them.
    known = {*watched, *_watched(spec)}

    def asset_of(uri: str) -> Asset:
        return watched_table(uri) if asset(uri).uri in known else asset(uri)

    expansion = expand(spec)
    with DAG(
        dag_id=spec.pipeline,
        description=_summary(spec.description),
        schedule=_schedule(spec, defaults, asset_of),
        catchup=False,
        max_active_runs=1,
        tags=sorted({"modelmill", *spec.tags}),
        params={name: _param(defaults[name], param.description) for name, param in spec.params.items()},
        default_args=_default_args(),
        doc_md=dag_document(spec),
        auto_register=False,  # one that turns out to be impossible must not stand beside its invalid twin
    ) as dag:
        tasks = _Tasks(expansion, defaults, asset_of)
        needed = _needed(expansion, task)
        for name in expansion.spec.order():
            if name in needed:
                tasks.add(name)
    return dag


def _needed(expansion: Expansion, task: str | None) -> set[str]:
    """Return what a task's process needs: of hundreds of signals, the steps of one.

    The task and all before it, since they make its inputs; those right after it, and what these need, since
    Airflow's OpenLineage provider names the tasks on both sides.
    """
    needs = expansion.spec.needs()
    if task not in needs:
        return set(needs)
    found = set[str]()
    waiting = [task, *(name for name, before in needs.items() if task in before)]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += needs[name]
    return found


class _Tasks:
    """The tasks of a DAG, made one after the other in the order of the edges.

    :param expansion: the pipeline, its copies written out.
    :param params: defaults of its parameters.
    :param asset_of: returns the asset of a URI.
    """

    def __init__(
        self, expansion: Expansion, params: Mapping[str, ParamValue], asset_of: Callable[[str], Asset]
    ) -> None:
        self._expansion = expansion
        self._spec = spec = expansion.spec
        self._asset_of = asset_of
        self._configs = {name: _config(spec, name, params) for name in spec.steps}
        self._profiles = configured_profiles()
        self._groups = {
            name: TaskGroup(name, prefix_group_id=False, tooltip=group.description)
            for name, group in spec.groups.items()
        }
        self._tasks: dict[str, StepOperator] = {}

    def add(self, name: str) -> None:
        """Make the task of a step whose inputs have their tasks already."""
        spec, step = self._spec, self._spec.steps[name]
        assets = _assets(spec, name, self._configs)
        task = self._tasks[name] = operator_for(step.component)(
            task_id=name,
            component=step.component,
            inputs={
                port: self._follow(sources) if isinstance(sources, str) else [*map(self._follow, sources)]
                for port, sources in step.inputs.items()
            },
            config=step.config,
            pipeline=spec.pipeline,
            pipeline_digest=self._expansion.digest,
            storage_connection=spec.storage_connection,
            inlets=[self._asset_of(uri) for uri in assets.inlets if is_absolute_uri(uri)],
            outlets=[
                *(self._asset_of(uri) for uri in assets.outlets if is_absolute_uri(uri)),
                *(conditional_asset(uri) for uri in assets.conditional),
            ],
            doc_md=f"{component_named(step.component).help}\n\n{fenced(step.config)}",
            needs=step.resources,
            when=self._conditions(step),
            task_group=self._groups.get(spec.group_of.get(name, "")),
            **_placed(self._expansion.origins[name].of, step, self._profiles),
        )
        if can_ask(task):
            ask_first(task, step, self._verdicts(step))

    def _follow(self, source: str) -> Any:
        origin, _, port = source.partition(".")
        return XComArg(self._tasks[origin], key=port)

    def _conditions(self, step: StepSpec) -> dict[Outcome, Any]:
        return {wanted: [*map(self._follow, verdicts)] for wanted, verdicts in self._verdicts(step).items()}

    def _verdicts(self, step: StepSpec) -> dict[Outcome, list[str]]:
        """Return the edges, ``STEP.PORT``, of the verdicts on which a step runs."""
        verdicts: dict[Outcome, list[str]] = {}
        for gate, wanted in step.when.items():
            port = verdict_port(component_named(self._spec.steps[gate].component))
            verdicts.setdefault(wanted, []).append(f"{gate}.{port}")
        return verdicts


def _placed(name: str, step: StepSpec, profiles: Profiles) -> dict[str, Any]:
    """Return the operator's arguments that say where a step runs, and how often it is tried."""
    needed = step.resources.over(component_named(step.component).resources)
    try:
        placement = place(needed, profiles, profile=step.resources.profile)
    except ConfigError as error:
        raise ConfigError(
            f"steps.{name}.resources: {error.rule}", got=error.got, remedy=error.remedy
        ) from error
    given = {name: getattr(placement, name) for name in ("executor", "queue", "pool", "python")}
    arguments: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if placement.executor is not None:
        check_executor(placement.executor)
    if placement.pod is not None:
        arguments["executor_config"] = {"pod_override": pod_override(placement.pod)}
    if step.retries is not None:
        arguments["retries"] = step.retries
    return {**arguments, "pool_slots": placement.pool_slots}


def _default_args() -> dict[str, Any]:
    return {
        "owner": "modelmill",
        "retries": conf.getint("modelmill", "retries", fallback=2),
        "retry_delay": timedelta(seconds=conf.getfloat("modelmill", "retry_delay", fallback=10.0)),
    }


def _tables(spec: PipelineSpec, params: Mapping[str, ParamValue]) -> list[str]:
    """Return the tables that start a pipeline, with the parameters' defaults."""
    tables = spec.schedule.tables if isinstance(spec.schedule, TableSchedule) else ()
    return [str(substitute(table, params)) for table in tables]


def _watched(spec: PipelineSpec) -> set[str]:
    """Return the asset URIs of the tables that start a pipeline; of an impossible schedule, none."""
    try:
        return {asset(table).uri for table in _tables(spec, spec.param_values())}
    except (InputError, ValueError):
        return set()


def _schedule(
    spec: PipelineSpec, params: Mapping[str, ParamValue], asset_of: Callable[[str], Asset]
) -> CronTriggerTimetable | list[Asset] | None:
    if spec.schedule is None:
        return None
    if isinstance(spec.schedule, str):
        if not croniter.is_valid(spec.schedule):
            raise ConfigError(
                "schedule: a cron expression must name times that exist",
                got=spec.schedule,
                remedy="for every night at two write '0 2 * * *'",
            )
        # Without a start date, unpausing a DAG starts no run for the time that has passed. (False would do so
        # within a tenth of the interval after that time: from two to half past four for a nightly run.)
        return CronTriggerTimetable(spec.schedule, timezone="UTC", run_immediately=timedelta(0))
    if isinstance(spec.schedule, TableSchedule):
        return [asset_of(table) for table in _tables(spec, params)]
    return [asset_of(uri) for uri in spec.schedule.assets]


_JSON_TYPES: Mapping[type, str] = {bool: "boolean", int: "integer", float: "number", str: "string"}


def _param(default: ParamValue, description: str) -> Param:
    if default is None:
        # Nobody has a value yet: the trigger form gets a field that may stay empty.
        return Param(None, description=description, type=["null", "string", "number", "boolean"])
    return Param(default, description=description, type=_JSON_TYPES[type(default)])


def _config(spec: PipelineSpec, name: str, params: Mapping[str, ParamValue]) -> Config | None:
    """Return a step's configuration with the parameters' defaults; None where one has no value yet."""
    step = spec.steps[name]
    try:
        config: Config = component_named(step.component).config.model_validate(
            substitute(step.config, params)
        )
    except (ConfigError, ValidationError):
        return None
    return config


def _assets(spec: PipelineSpec, name: str, configs: Mapping[str, Config | None]) -> Assets:
    step, config = spec.steps[name], configs[name]
    component = component_named(step.component)
    if component.assets is None or config is None:
        return Assets()
    upstream: dict[str, Config] = {}
    for port, sources in step.inputs.items():
        behind = configs[_maker(spec, sources)] if isinstance(sources, str) else None
        if behind is not None:
            upstream[port] = behind
    return component.assets(config, upstream)


def _maker(spec: PipelineSpec, source: str) -> str:
    """Return the step that made what an edge carries: not one that only hands it on."""
    origin = source.partition(".")[0]
    step = spec.steps[origin]
    handed = step.inputs.get(component_named(step.component).forwards or "")
    return _maker(spec, handed) if isinstance(handed, str) else origin


def _summary(description: str) -> str | None:
    return description.strip().partition("\n")[0] or None


def _with_line(problem: Problem) -> str:
    where = f"line {problem.line}, column {problem.column}: " if problem.line else ""
    return f"{where}{problem.path}: {problem.message}" if problem.path else f"{where}{problem.message}"


def invalid_dag(dag_id: str, file: PipelineFile) -> DAG:
    """Return the DAG that stands for an invalid file.

    :param dag_id: its id.
    :param file: the file.
    :return: the DAG: one task, which fails with every problem of the file.
    """
    lines = "\n".join(f"- {problem}" for problem in map(_with_line, file.problems))
    with DAG(
        dag_id=dag_id,
        description=f"{file.path} is not a valid pipeline",
        schedule=None,
        catchup=False,
        tags=sorted({"modelmill", INVALID_TAG}),
        doc_md=f"`{file.path}` is not a valid pipeline:\n\n{lines}\n",
    ) as dag:
        problems = tuple(f"{file.path}: {problem}" for problem in map(_with_line, file.problems))
        InvalidPipelineOperator(task_id="problems", problems=problems, retries=0, doc_md=f"{lines}\n")
    return dag
