"""Running a whole pipeline without an orchestrator: for development and tests."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Literal

from modelmill.artifacts import AnyReference, VerdictRef
from modelmill.errors import InputError, ModelmillError, TransientError
from modelmill.pipeline.catalogue import component_named
from modelmill.pipeline.conditions import unmet, verdict_port
from modelmill.pipeline.expansion import Expansion, expand
from modelmill.pipeline.forked_steps import StepServer, can_fork
from modelmill.pipeline.request import InputValue, StepRequest, StepResult
from modelmill.pipeline.reuse import reusable
from modelmill.pipeline.spec import ParamValue, PipelineSpec
from modelmill.pipeline.step_process import StepProcess, StepRefusedError
from modelmill.settings import Settings

StepState = Literal["done", "reused", "skipped", "failed", "upstream_failed"]
"""As Airflow calls them: a step is ``upstream_failed`` if one that it depends on has failed."""


@dataclass(frozen=True)
class StepEnd:
    """How a step of a run ended."""

    step: str
    state: StepState
    seconds: float
    result: StepResult | None = None
    """None unless it is done or reused."""


def run_pipeline(
    spec: PipelineSpec,
    *,
    settings: Settings,
    params: Mapping[str, ParamValue] | None = None,
    jobs: int = 1,
    say: Callable[[str], None] = print,
    on_end: Callable[[StepEnd], None] = lambda _end: None,
) -> dict[str, StepResult]:
    """Run every step in the order of the edges; finished steps whose inputs are the same are reused.

    As in Airflow, a step that fails ends only what depends on it; the error is raised when all others have
    ended.

    :param spec: a valid pipeline; of a group with ``for_each`` every copy runs.
    :param settings: where things are kept.
    :param params: parameter values for this run.
    :param jobs: how many steps may run side by side, at least 1.
    :param say: gets each line to show; one at a time.
    :param on_end: is told how each step ended: also of those that fail.
    :return: the result of each step that ran, by its id; skipped steps have none.
    :raises InputError: if steps refuse their inputs.
    :raises TransientError: if a step fails in another way.
    """
    expansion = expand(spec)
    needs = {name: sorted(steps) for name, steps in expansion.spec.needs().items()}
    return _PipelineRun(expansion, needs, settings, spec.param_values(params), jobs, say, on_end).run()


@dataclass
class _PipelineRun:
    """One run: what has ended, and what runs now. Only the thread that calls :meth:`run` changes it."""

    expansion: Expansion
    needs: Mapping[str, Sequence[str]]
    settings: Settings
    params: Mapping[str, ParamValue]
    jobs: int
    say: Callable[[str], None]
    on_end: Callable[[StepEnd], None]
    ends: dict[str, StepEnd] = field(default_factory=dict)
    errors: dict[str, ModelmillError] = field(default_factory=dict)
    requests: dict[str, StepRequest] = field(default_factory=dict)
    """Of steps that have been asked about: they run unless they have ended."""
    running: dict[Future[StepResult], _Running] = field(default_factory=dict)
    server: StepServer = field(default_factory=StepServer)
    saying: threading.Lock = field(default_factory=threading.Lock)

    def run(self) -> dict[str, StepResult]:
        waiting = self.expansion.spec.order()
        with contextlib.closing(self.server), ThreadPoolExecutor(self.jobs) as pool:
            try:
                while waiting or self.running:
                    ready = [name for name in waiting if self.ends.keys() >= set(self.needs[name])]
                    self._end_without_process([name for name in ready if name not in self.requests])
                    waiting = [name for name in waiting if name not in self.ends]
                    if not self.ends.keys().isdisjoint(ready):
                        continue  # others may be ready now, and are asked about together
                    for name in ready[: self.jobs - len(self.running)]:
                        waiting.remove(name)
                        self._start(name, pool)
                    if self.running and (not ready or len(self.running) == self.jobs):
                        self._end_those_done()
            finally:  # steps still run here only if this thread is to stop
                for future, one in self.running.items():
                    while not future.done():  # its process may not have started yet
                        one.process.stop()
                        wait([future], timeout=0.1)
                    self.on_end(StepEnd(one.step, "failed", time.monotonic() - one.began))
        if self.errors:
            raise _failure(self.errors)
        return {name: end.result for name, end in self.ends.items() if end.result}

    def _end_without_process(self, ready: Sequence[str]) -> None:
        """End those that are skipped, depend on a failure, or have a result already; keep what is to run."""
        outputs = {step: end.result.outputs for step, end in self.ends.items() if end.result}
        asked: dict[str, StepRequest] = {}
        for name in ready:
            needs = self.needs[name]
            failed = [need for need in needs if self.ends[need].state in ("failed", "upstream_failed")]
            if failed:
                self._end(StepEnd(name, "upstream_failed", 0.0), f"{failed[0]} has failed")
                continue
            reason = skip_reason(self.expansion, name, needs, outputs)
            if reason:
                self._end(StepEnd(name, "skipped", 0.0), reason)
                continue
            asked[name] = request_for(self.expansion, name, self.params, outputs)
        self.requests |= asked
        # What another interpreter has installed decides the step's key: only that one can ask.
        if asked and self.settings.python == sys.executable:
            self._reuse(asked)

    def _reuse(self, asked: Mapping[str, StepRequest]) -> None:
        """Ask here: that a process asks takes most of the time of a night in which nothing has changed."""
        began = time.monotonic()
        answers = reusable([*asked.values()], self.settings)
        seconds = (time.monotonic() - began) / len(asked)
        for name, answer in zip(asked, answers, strict=True):
            if answer.result:  # else the step's own process says what is wrong, or what has changed
                for line in answer.lines:
                    self._said(name, line)
                self._end(StepEnd(name, "reused", seconds, answer.result))

    def _start(self, name: str, pool: ThreadPoolExecutor) -> None:
        python = self.settings.python
        server = self.server if can_fork(python) else None
        process = StepProcess(self.requests[name], python=python, server=server)
        future = pool.submit(process.run_to_end, lambda line: self._said(name, line))
        self.running[future] = _Running(name, time.monotonic(), process)

    def _end_those_done(self) -> None:
        for future in wait(self.running, return_when=FIRST_COMPLETED).done:
            one = self.running.pop(future)
            seconds = time.monotonic() - one.began
            try:
                result = future.result()
            except Exception as error:
                self._end(StepEnd(one.step, "failed", seconds))
                if not isinstance(error, ModelmillError):
                    raise
                self.errors[one.step] = error
            else:
                self._end(StepEnd(one.step, "reused" if result.reused else "done", seconds, result))

    def _end(self, end: StepEnd, why: str = "") -> None:
        self.ends[end.step] = end
        self.on_end(end)
        how = f"{end.state}: {why}" if why else f"{end.state} in {end.seconds:.1f} s"
        with self.saying:
            self.say(f"[{len(self.ends)}/{len(self.expansion.spec.steps)}] {end.step}: {how}")

    def _said(self, step: str, line: str) -> None:
        with self.saying:
            self.say(line if self.jobs == 1 or line.startswith(f"{step}: ") else f"{step}: {line}")


@dataclass(frozen=True)
class _Running:
    """A step that runs now."""

    step: str
    began: float
    process: StepProcess


def _failure(errors: Mapping[str, ModelmillError]) -> ModelmillError:
    """Return the one error, or one that has them all."""
    if len(errors) == 1:
        return next(iter(errors.values()))
    told = f"{len(errors)} steps failed: " + "; ".join(map(str, errors.values()))
    if all(isinstance(error, InputError) for error in errors.values()):
        return StepRefusedError(told)
    return TransientError(told, remedy="the log of each step says more")


def skip_reason(
    expansion: Expansion,
    name: str,
    needs: Iterable[str],
    outputs: Mapping[str, Mapping[str, AnyReference]],
) -> str | None:
    """Return why a step is skipped, as Airflow would skip it; None if it runs, as far as verdicts are known.

    :param expansion: the pipeline, its copies written out.
    :param name: the step's id.
    :param needs: steps before it that have ended; those without outputs were skipped.
    :param outputs: references by step id and output port.
    :return: the reason in one line.
    """
    for step in needs:
        if step not in outputs:
            return f"{step} was skipped"
    steps = expansion.spec.steps
    for gate, wanted in steps[name].when.items():
        if gate not in outputs:
            continue
        verdict = outputs[gate][verdict_port(component_named(steps[gate].component))]
        reason = unmet(wanted, VerdictRef.model_validate(verdict))
        if reason:
            return reason
    return None


def request_for(
    expansion: Expansion,
    name: str,
    params: Mapping[str, ParamValue],
    outputs: Mapping[str, Mapping[str, AnyReference]],
) -> StepRequest:
    """Return the request for one step of a pipeline.

    :param expansion: the pipeline, its copies written out.
    :param name: the step's id.
    :param params: value of each parameter.
    :param outputs: references by step id and output port, for every step that this one depends on.
    :return: the request.
    """

    def follow(source: str) -> AnyReference:
        origin, _, port = source.partition(".")
        return outputs[origin][port]

    step = expansion.spec.steps[name]
    inputs: dict[str, InputValue] = {
        port: follow(sources) if isinstance(sources, str) else tuple(map(follow, sources))
        for port, sources in step.inputs.items()
    }
    return request_with(inputs, expansion, name, params)


def request_with(
    inputs: Mapping[str, InputValue], expansion: Expansion, name: str, params: Mapping[str, ParamValue]
) -> StepRequest:
    """Return the request for one step of a pipeline with inputs of one's own.

    :param inputs: by port; empty, where the configuration alone is looked at.
    :param expansion: the pipeline, its copies written out.
    :param name: the step's id.
    :param params: value of each parameter.
    :return: the request.
    """
    step = expansion.spec.steps[name]
    return StepRequest(
        pipeline=expansion.spec.pipeline,
        pipeline_digest=expansion.digest,
        step=name,
        component=step.component,
        config=step.config,
        params=dict(params),
        inputs=dict(inputs),
        resources=step.resources,
    )
