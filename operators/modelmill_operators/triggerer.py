"""``python -m modelmill_operators triggerer``: Airflow's triggerer, for pipelines of hundreds of steps.

For each task that begins in the triggerer, Airflow 3.3 reads the whole DAG, sends it to the process that runs
triggers, and reads it there again: with twice as many tasks a night costs four times as much. At the end of
each task it has the DAG processor read the DAG's file for callbacks, whether the task has any or not. And it
records updates of assets only for tasks that a worker ends.

And the process that runs triggers looks once a second for new ones, and tells once a second what has ended,
so that each step of a chain waits for two or three seconds.

None of it can be set. So this triggerer is Airflow's own, with four things done otherwise for the steps of
pipelines, and for no other task: the question gets the DAG with its own task alone and the XComs that it
needs, an end goes straight to the database, together with all others of the same moment, assets that the
task updates are recorded with it, and while steps are asked about, both processes look five times a second.
A fifth is for all: the two processes cannot wait for each other for ever (:class:`PatientSocket`). It builds
on what is inside Airflow 3.3: the command starts another version's own triggerer, with which nights are
slower.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from socket import socket
from typing import Any, Self, cast

from airflow.api_fastapi.execution_api.datamodels.asset import AssetProfile
from airflow.executors.workloads.trigger import RunTrigger
from airflow.jobs import triggerer_job_runner
from airflow.models.dagbag import DBDagBag
from airflow.models.dagrun import DagRun
from airflow.models.serialized_dag import SerializedDagModel
from airflow.models.taskinstance import TaskInstance
from airflow.models.trigger import Trigger
from airflow.models.xcom import XComModel
from airflow.sdk.bases.xcom import BaseXCom
from airflow.sdk.execution_time.xcom import XCom
from airflow.serialization.definitions.dag import SerializedDAG
from airflow.serialization.serialized_objects import DagSerialization
from airflow.triggers.base import BaseTaskEndEvent, TaskSkippedEvent, TaskSuccessEvent
from airflow.utils.session import create_session
from airflow.utils.state import TaskInstanceState
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from modelmill_operators.question import TRIGGER
from modelmill_operators.reuse import RECORDS_ASSETS, sources_of

LOOK_SECONDS = 0.2
"""Time between two looks while steps are asked about."""
BUSY_SECONDS = 10.0
"""So long after the last question the next ones are looked for that often: a link of a chain takes less."""

Document = dict[str, Any]
"""A serialized DAG, or a part of one."""


@dataclass(frozen=True)
class _Ending:
    """What is needed of a task when it ends."""

    assets: Sequence[AssetProfile]
    told: bool
    """Whether a callback hears of its success: Airflow sees to that."""


class PatientSocket:
    """The end of a socket to which a process writes without waiting for the other one to read.

    The process that runs triggers writes its log to another socket, and waits while that is full. If this
    process then waited until hundreds of new triggers have gone out, neither would read any more.

    :param own: the socket.
    """

    def __init__(self, own: socket) -> None:
        self._socket = own
        self._waiting = SimpleQueue[bytes | None]()
        threading.Thread(target=self._send, daemon=True).start()

    def sendall(self, data: bytes) -> None:
        """Send bytes, after those that wait already."""
        self._waiting.put(data)

    def close(self) -> None:
        """Close the socket: nobody reads what still waits."""
        self._waiting.put(None)
        self._socket.close()

    def _send(self) -> None:
        with contextlib.suppress(OSError):  # that the other process has ended is found out by who reads
            while (data := self._waiting.get()) is not None:
                self._socket.sendall(data)


class StepTriggerSupervisor(triggerer_job_runner.TriggerRunnerSupervisor):
    """Airflow's own, with what this module says done otherwise."""

    @classmethod
    def start(cls, **options: Any) -> Self:
        """Start the process that runs triggers.

        :param **options: as Airflow's own takes them.
        :return: this end of it.
        """
        started = cast("Self", super().start(**options))
        started.stdin = cast("socket", PatientSocket(started.stdin))
        return started

    def _create_workload(
        self,
        trigger: Trigger,
        dag_bag: DBDagBag,
        render_log_fname: Callable[..., str],
        session: Session,
    ) -> RunTrigger | None:
        if trigger.classpath == TRIGGER and trigger.task_instance is not None:
            own = _OneTask(dag_bag, trigger.task_instance.task_id)
            workload = super()._create_workload(trigger, own, render_log_fname, session)
            if own.found is not None:
                _endings[trigger.id] = _ending(own.found)
            _arguments[trigger.id] = trigger.kwargs
            return workload
        return super()._create_workload(trigger, dag_bag, render_log_fname, session)

    def build_trigger_workloads(self, new_trigger_ids: set[int]) -> list[RunTrigger]:
        """Return what is sent to the process that runs triggers: questions with the XComs that they need."""
        _whole.clear()
        workloads: list[RunTrigger] = super().build_trigger_workloads(new_trigger_ids)
        if XCom is BaseXCom:  # what another backend keeps in the database is no value
            with create_session() as session:
                _add_xcoms([one for one in workloads if one.id in _arguments], session)
        _arguments.clear()
        return workloads

    def handle_events(self) -> None:
        """Record how tasks end: those of steps in one transaction."""
        ends = {entry.trigger_id: _own_end(entry) for entry in self.events}
        own = {trigger_id: end for trigger_id, end in ends.items() if end is not None}
        if own:
            with create_session() as session:
                later = _record(own, session)
            for call in later:  # who listens to assets hears of what is in the database
                call()
            for trigger_id in own:  # of a task that somebody has ended meanwhile, too
                _endings.pop(trigger_id, None)
            others = [entry for entry in self.events if entry.trigger_id not in own]
            self.events.clear()
            self.events.extend(others)
        super().handle_events()  # type: ignore[no-untyped-call] # Airflow has no types here


class StepTriggerRunner(triggerer_job_runner.TriggerRunner):
    """Airflow's own, the process that runs triggers: it looks more often while steps are asked about.

    Airflow's loop sleeps for a second after :meth:`cancel_triggers`. The supervisor answers each look, and
    goes to the database before the next one.
    """

    _asked: float = float("-inf")

    async def create_triggers(self) -> None:
        """Start the triggers that the supervisor has sent."""
        if any(workload.classpath == TRIGGER for workload in self.to_create):
            self._asked = time.monotonic()
        await super().create_triggers()  # type: ignore[no-untyped-call] # Airflow has no types here

    async def cancel_triggers(self) -> None:
        """Cancel triggers that nobody waits for, and go on with the loop while steps are asked about."""
        await super().cancel_triggers()  # type: ignore[no-untyped-call] # as above
        while not self.stop and time.monotonic() - self._asked < BUSY_SECONDS:
            await asyncio.sleep(LOOK_SECONDS)
            await self.sync_state_to_supervisor(await self.cleanup_finished_triggers())
            await self.create_triggers()
            await super().cancel_triggers()  # type: ignore[no-untyped-call] # as above


_endings: dict[int, _Ending] = {}
"""By trigger. The process that talks to the database has one loop."""
_arguments: dict[int, Document] = {}
"""Of the triggers that are being started."""
_whole: dict[int, SerializedDagModel | None] = {}
"""By DAG run, of the triggers that are being started. Airflow reads the whole DAG again for each of them."""


def _own_end(entry: triggerer_job_runner.TriggerEventEntry) -> BaseTaskEndEvent | None:
    """Return how a step's task ends; None where Airflow sees to it."""
    ending, event = _endings.get(entry.trigger_id), entry.event
    if ending is None:
        return None
    if isinstance(event, TaskSuccessEvent | TaskSkippedEvent) and not ending.told:
        return event
    del _endings[entry.trigger_id]
    return None


def _add_xcoms(workloads: Sequence[RunTrigger], session: Session) -> None:
    """Add the XComs that questions need to their arguments: a query for each run, not one for each value."""
    runs: dict[tuple[str, str], list[RunTrigger]] = {}
    for workload in workloads:
        if workload.ti is not None:
            runs.setdefault((workload.ti.dag_id, workload.ti.run_id), []).append(workload)
    for (dag_id, run_id), asking in runs.items():
        arguments = [_arguments[one.id] for one in asking]
        needed = [sources_of(one["inputs"], one["when"]) for one in arguments]
        places = {source.partition(".")[::2] for sources in needed for source in sources}
        found = {
            f"{row.task_id}.{row.key}": XComModel.deserialize_value(row)
            for row in session.execute(
                select(XComModel.task_id, XComModel.key, XComModel.value).where(
                    XComModel.dag_id == dag_id,
                    XComModel.run_id == run_id,
                    XComModel.map_index == -1,
                    XComModel.task_id.in_({task for task, _ in places}),
                    XComModel.key.in_({key for _, key in places}),
                )
            )
        }
        for workload, given, sources in zip(asking, arguments, needed, strict=True):
            known = {source: found[source] for source in sources if source in found}
            workload.encrypted_kwargs = Trigger.encrypt_kwargs({**given, "known": known})


def _record(ends: Mapping[int, BaseTaskEndEvent], session: Session) -> list[Callable[[], None]]:
    """Write down how tasks end, as :func:`airflow.models.trigger.handle_event_submit` does for one.

    :param ends: events by trigger.
    :param session: the transaction.
    :return: what is to be called after it.
    """
    later: list[Callable[[], None]] = []
    waiting = select(TaskInstance).where(
        TaskInstance.trigger_id.in_(ends), TaskInstance.state == TaskInstanceState.DEFERRED
    )
    for instance in session.scalars(waiting).all():
        trigger_id = int(instance.trigger_id or 0)
        event, ending = ends[trigger_id], _endings[trigger_id]
        instance.trigger_id = None
        instance.set_state(event.task_instance_state, session=session)
        _push(instance, event.xcoms or {}, session)
        if event.task_instance_state == TaskInstanceState.SUCCESS:
            later += TaskInstance.register_asset_changes_in_db(
                instance, list(ending.assets), [], session=session
            )
    return later


def _push(instance: TaskInstance, xcoms: Mapping[str, Any], session: Session) -> None:
    """Write XComs as a worker does by the API: JSON values as they are, all keys of a task together."""
    names = ("dag_id", "run_id", "task_id", "map_index")
    place = {name: getattr(instance, name) for name in names}
    session.execute(delete(XComModel).filter_by(**place).where(XComModel.key.in_(xcoms)))
    session.add_all(
        XComModel(**place, dag_run_id=instance.dag_run.id, key=key, value=value)
        for key, value in xcoms.items()
    )


class _OneTask(DBDagBag):
    """DAGs as a question needs them: with its own task alone.

    :param dags: the whole ones.
    :param task_id: the task.
    """

    def __init__(self, dags: DBDagBag, task_id: str) -> None:
        super().__init__()
        self._originals = dags
        self._task_id = task_id
        self.found: Document | None = None
        """The task, as it is serialized, once its DAG has been asked for."""

    def get_serialized_dag_model_for_run(self, dag_run: DagRun, *, session: Session) -> Any:
        """Return the DAG of a run, with one task."""
        if dag_run.id not in _whole:
            _whole[dag_run.id] = self._originals.get_serialized_dag_model_for_run(dag_run, session=session)
        return self._own(_whole[dag_run.id])

    def get_serialized_dag_model(self, version_id: Any, session: Session) -> Any:
        """Return a version of a DAG, with one task."""
        return self._own(self._originals.get_serialized_dag_model(version_id, session=session))

    def _own(self, model: SerializedDagModel | None) -> _SmallModel | None:
        if model is None or model.data is None:
            return None
        data = with_one_task(model.data, self._task_id)
        self.found = next((task["__var"] for task in data["dag"]["tasks"]), None)
        return _SmallModel(data)


@dataclass(frozen=True)
class _SmallModel:
    """What the triggerer reads of a serialized DAG."""

    data: Document

    @property
    def dag(self) -> SerializedDAG:
        return DagSerialization.from_dict(self.data)


def with_one_task(data: Document, task_id: str) -> Document:
    """Return a serialized DAG without all other tasks.

    :param data: as Airflow keeps it; stays as it is.
    :param task_id: the task; one that is not there leaves no task.
    :return: the DAG.
    """
    dag = data["dag"]
    tasks = [task for task in dag["tasks"] if task["__var"]["task_id"] == task_id]
    alone = [
        {**task, "__var": {key: value for key, value in task["__var"].items() if key not in _RELATIONS}}
        for task in tasks
    ]
    children = {task_id: ["operator", task_id]} if tasks else {}
    group = {**dag["task_group"], "children": children}
    return {**data, "dag": {**dag, "tasks": alone, "task_group": group, "edge_info": {}, "doc_md": None}}


_RELATIONS = frozenset({"downstream_task_ids", "doc_md"})


def _ending(task: Document) -> _Ending:
    assets = tuple(_assets(task.get("outlets", ())))
    return _Ending(
        assets, told=bool(task.get("has_on_success_callback") or task.get("has_on_skipped_callback"))
    )


def _assets(outlets: Iterable[Document]) -> Iterable[AssetProfile]:
    """Return the assets among a task's outlets; aliases are for what a step says itself."""
    for outlet in outlets:
        if outlet["__type"] == "asset":
            one = outlet["__var"]
            yield AssetProfile(name=one["name"], uri=one["uri"], type="Asset")


def install() -> None:
    """Make Airflow's triggerer this one, in this process: its job looks for the classes by these names."""
    triggerer_job_runner.TriggerRunnerSupervisor = StepTriggerSupervisor  # type: ignore[misc] # replaced on purpose
    triggerer_job_runner.TriggerRunner = StepTriggerRunner  # type: ignore[misc] # as above
    os.environ[RECORDS_ASSETS] = "1"
