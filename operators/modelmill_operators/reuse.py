"""Asking in the triggerer whether a step's result is there already: one that is starts no process at all.

A task of Airflow is a process that reads the DAG file, and a step is a second one that imports its world. On
a night in which nothing has changed both only ask MLflow one question. So a step's task begins in the
triggerer (``start_from_trigger``), which asks for all steps that are ready in one go, and ends those with a
result where they are. All others go on to a worker, as always: also where the triggerer cannot tell, be it
that it lacks a library, or cannot reach a table, or MLflow does not answer in time. The question is answered
by a process beside the triggerer, which has none of Airflow's secrets: whatever it looks at, and however long
that takes, the triggerer's loop serves others meanwhile.

What a worker has to do stays with the worker: Airflow records updates of assets only there. So a reused step
that updates one is ended by its worker, which gets the answer with the task and starts no step for it. Only
where the triggerer is :mod:`modelmill_operators.triggerer`, it ends those, too.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import threading
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from airflow.sdk.execution_time.xcom import XCom
from airflow.triggers.base import (
    BaseTrigger,
    TaskSkippedEvent,
    TaskSuccessEvent,
    TriggerEvent,
)
from pydantic import TypeAdapter

from modelmill.artifacts import AnyReference, VerdictRef
from modelmill.pipeline.conditions import unmet
from modelmill.pipeline.request import InputValue, StepRequest, StepResult
from modelmill.pipeline.reuse import ReuseAnswer
from modelmill.pipeline.reuse_process import ReuseProcess
from modelmill.pipeline.spec import Outcome
from modelmill_operators import metrics
from modelmill_operators.backfills import backfill_skips
from modelmill_operators.links import XCOM_STEP, MlflowRunLink, RegisteredModelLink, ResultLink
from modelmill_operators.params import asked_params, run_params

ANSWER_SECONDS = 120.0
"""After so long the step goes to a worker without an answer."""
QUESTION_SECONDS = 55.0
"""So long a question to MLflow and the tables may take. Who asks meanwhile waits for it and the next one."""
RECORDS_ASSETS = "_MODELMILL_TRIGGERER_RECORDS_ASSETS"
"""Variable of a triggerer that records what ends in it: :mod:`modelmill_operators.triggerer`."""
_TOGETHER_SECONDS = 0.05

_REFERENCE: TypeAdapter[AnyReference] = TypeAdapter(AnyReference)
_LINKS: Mapping[str, ResultLink] = {link.xcom_key: link for link in (MlflowRunLink(), RegisteredModelLink())}

log = logging.getLogger(__name__)

Sources = Mapping[str, str | Sequence[str]]
"""By port, ``TASK.KEY`` of the XCom that it gets, or several of them."""


def sources_of(inputs: Sources, when: Mapping[Outcome, Sequence[str]]) -> set[str]:
    """Return the XComs that a question needs.

    :param inputs: where its inputs come from.
    :param when: verdicts on which the step runs, by outcome.
    :return: ``TASK.KEY`` of each.
    """
    lists = [[one] if isinstance(one, str) else one for one in inputs.values()]
    return {source for sources in (*lists, *when.values()) for source in sources}


class ReuseTrigger(BaseTrigger):
    """End a step's task with the result of an earlier run, or send it to a worker.

    The event that a worker gets is ``{"result": …}``: a :class:`~modelmill.pipeline.request.StepResult` as
    JSON, or None where the step has to run.

    :param request: a :class:`~modelmill.pipeline.request.StepRequest` as JSON, without inputs and parameters.
    :param inputs: where the inputs come from.
    :param when: verdicts on which the step runs, by outcome.
    :param links: keys of the XComs that hold the targets of the task's links.
    :param outlets: whether the task updates assets whenever it ends well: then a worker ends it.
    :param known: XComs that come with the question, by ``TASK.KEY``; others are pulled.
    """

    def __init__(
        self,
        *,
        request: str,
        inputs: Sources,
        when: Mapping[Outcome, Sequence[str]],
        links: Sequence[str],
        outlets: bool,
        known: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # Airflow has no types here
        # Names that are no template fields of the operator: Airflow would render those.
        self.asked = request
        self.sources = inputs
        self.conditions = when
        self.links = links
        self.outlets = outlets
        self.known = known or {}

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what makes this trigger again: its class and its arguments."""
        arguments = {
            "request": self.asked,
            "inputs": self.sources,
            "when": self.conditions,
            "links": self.links,
            "outlets": self.outlets,
        }
        return f"{type(self).__module__}.{type(self).__qualname__}", arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Ask once.

        :yield: how the task ends, or what its worker is told.
        """
        try:
            event = await asyncio.wait_for(self._event(), timeout=ANSWER_SECONDS)
        except Exception as error:  # whatever it is, the worker finds out and says it
            log.info("whether there is a result already is asked on a worker: %r", error)
            event = _worker({"result": None})
        yield event

    async def _event(self) -> TriggerEvent:
        skipped = await asyncio.to_thread(self._unmet)
        if skipped:
            log.info("skipped: %s", skipped)
            return TaskSkippedEvent()
        answer = await _ask(await asyncio.to_thread(self._request))
        if answer.result is None:
            return _worker({"result": None})
        for line in answer.lines:
            log.info(line)
        if (self.outlets and RECORDS_ASSETS not in os.environ) or answer.result.events:
            return _worker({"result": answer.result.model_dump(mode="json")})
        instance, component = self._instance, StepRequest.model_validate_json(self.asked).component
        metrics.send_metrics(
            answer.result,
            component=component,
            dag_id=instance.dag_id,
            task_id=instance.task_id,
            where=metrics.TRIGGERER,
        )
        return TaskSuccessEvent(xcoms=self._xcoms(answer.result))

    def _unmet(self) -> str | None:
        """Return why the step is skipped; None if it is not."""
        component = StepRequest.model_validate_json(self.asked).component
        skipped = backfill_skips(component, self._instance.get_template_context())
        if skipped:
            return skipped
        for wanted, sources in self.conditions.items():
            for source in sources:
                reason = unmet(wanted, VerdictRef.model_validate(self._pulled(source)))
                if reason:
                    return reason
        return None

    def _request(self) -> StepRequest:
        inputs: dict[str, InputValue] = {}
        for port, sources in self.sources.items():
            if isinstance(sources, str):
                inputs[port] = self._reference(sources)
            else:
                inputs[port] = tuple(map(self._reference, sources))
        request = StepRequest.model_validate_json(self.asked)
        params = asked_params(request.config, run_params(self._instance.get_template_context()))
        return request.model_copy(update={"inputs": inputs, "params": params})

    def _reference(self, source: str) -> AnyReference:
        return _REFERENCE.validate_python(self._pulled(source))

    def _pulled(self, source: str) -> Any:
        if source in self.known:
            return self.known[source]
        task, _, key = source.partition(".")
        instance = self._instance
        return _pulls.value(instance.dag_id, instance.run_id, task, key)

    @property
    def _instance(self) -> Any:
        if self.task_instance is None:
            raise RuntimeError("a step is asked about for a task instance")
        return self.task_instance

    def _xcoms(self, result: StepResult) -> dict[str, Any]:
        """Return what a worker would have pushed."""
        outputs = {port: reference.model_dump(mode="json") for port, reference in result.outputs.items()}
        return {
            **outputs,
            "return_value": outputs,
            XCOM_STEP: result.to_keep(),
            **{key: _LINKS[key].target(result) for key in self.links if key in _LINKS},
        }


class _Pulls:
    """XComs that hundreds of steps get at the same moment, such as one dataset: each is pulled once.

    A value is kept for a second. It cannot be another one within it: the task that made it would have to be
    cleared, run again, and start the task that asks.
    """

    seconds = 1.0

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[tuple[str, str, str, str], tuple[float, Any]] = {}

    def value(self, dag_id: str, run_id: str, task_id: str, key: str) -> Any:
        """Return an XCom of a task that is not mapped."""
        place, now = (dag_id, run_id, task_id, key), time.monotonic()
        with self._lock:
            self._kept = {name: one for name, one in self._kept.items() if now - one[0] < self.seconds}
            if place not in self._kept:
                found = XCom.get_one(dag_id=dag_id, run_id=run_id, task_id=task_id, key=key, map_index=-1)
                self._kept[place] = (time.monotonic(), found)
            return self._kept[place][1]


_pulls = _Pulls()
_answering = ReuseProcess()
atexit.register(_answering.close)
_waiting: list[tuple[StepRequest, asyncio.Future[ReuseAnswer]]] = []
_tasks: set[asyncio.Task[None]] = set()


def _worker(told: dict[str, Any]) -> TriggerEvent:
    """Return the event that hands the task to a worker."""
    return TriggerEvent(told)  # type: ignore[no-untyped-call] # Airflow has no types here


async def _ask(request: StepRequest) -> ReuseAnswer:
    """Ask together with all others that ask meanwhile: one question to MLflow for many steps."""
    answer: asyncio.Future[ReuseAnswer] = asyncio.get_running_loop().create_future()
    _waiting.append((request, answer))
    # Who is at work takes this one next. One that has ended is still listed until the loop runs its callback.
    if all(task.done() for task in _tasks):
        task = asyncio.create_task(_answer_all())
        _tasks.add(task)
        task.add_done_callback(_tasks.discard)
    return await answer


async def _answer_all() -> None:
    """Answer all that wait, until nobody does: one question at a time, each within its time.

    The thread only waits for the process that answers: the deadline ends that one, and so the thread.
    """
    while _waiting:
        await asyncio.sleep(_TOGETHER_SECONDS)
        taken = [(request, answer) for request, answer in _waiting if not answer.done()]
        _waiting.clear()
        try:
            requests = [request for request, _ in taken]
            answers = await asyncio.to_thread(_answering.answers, requests, seconds=QUESTION_SECONDS)
        except Exception as error:
            log.warning("steps could not be asked about: %r", error)
            answers = [ReuseAnswer(None)] * len(taken)
        for (_, answer), found in zip(taken, answers, strict=True):
            if not answer.done():
                answer.set_result(found)
