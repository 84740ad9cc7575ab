"""Running a whole pipeline without an orchestrator: for development and tests. One step after the other."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from modelmill.artifacts import AnyReference, VerdictRef
from modelmill.pipeline.catalogue import component_named
from modelmill.pipeline.conditions import unmet, verdict_port
from modelmill.pipeline.expansion import Expansion, expand
from modelmill.pipeline.request import InputValue, StepRequest, StepResult
from modelmill.pipeline.spec import ParamValue, PipelineSpec
from modelmill.pipeline.step_process import StepProcess
from modelmill.settings import Settings

StepState = Literal["done", "reused", "skipped", "failed"]


@dataclass(frozen=True)
class StepEnd:
    """How a step of a run ended."""

    step: str
    state: StepState
    seconds: float
    result: StepResult | None = None
    """None if it was skipped or has failed."""


def run_pipeline(
    spec: PipelineSpec,
    *,
    settings: Settings,
    params: Mapping[str, ParamValue] | None = None,
    say: Callable[[str], None] = print,
    on_end: Callable[[StepEnd], None] = lambda _end: None,
) -> dict[str, StepResult]:
    """Run every step in the order of the edges; finished steps whose inputs are the same are reused.

    :param spec: a valid pipeline; of a group with ``for_each`` every copy runs.
    :param settings: where things are kept.
    :param params: parameter values for this run.
    :param say: gets each line to show.
    :param on_end: is told how each step ended: also of the one whose error ends the run.
    :return: the result of each step that ran, by its id; skipped steps have none.
    :raises InputError: if a step refuses its input.
    :raises TransientError: if a step fails in another way.
    """
    values, expansion = spec.param_values(params), expand(spec)
    needs, order = expansion.spec.needs(), expansion.spec.order()
    results: dict[str, StepResult] = {}
    for number, name in enumerate(order, start=1):
        began = time.monotonic()
        outputs = {step: result.outputs for step, result in results.items()}
        reason = _skip_reason(expansion, name, needs[name], outputs)
        if reason:
            say(f"[{number}/{len(order)}] {name}: skipped: {reason}")
            on_end(StepEnd(name, "skipped", 0.0))
            continue
        request = request_for(expansion, name, values, outputs)
        state: StepState = "failed"
        try:
            results[name] = StepProcess(request, python=settings.python).run(say)
            state = "reused" if results[name].reused else "done"
        finally:
            seconds = time.monotonic() - began
            on_end(StepEnd(name, state, seconds, results.get(name)))
        say(f"[{number}/{len(order)}] {name}: {state} in {seconds:.1f} s")
    return results


def _skip_reason(
    expansion: Expansion,
    name: str,
    needs: Iterable[str],
    outputs: Mapping[str, Mapping[str, AnyReference]],
) -> str | None:
    """Return why a step is skipped, as Airflow would skip it; None if it runs."""
    for step in sorted(needs):
        if step not in outputs:
            return f"{step} was skipped"
    steps = expansion.spec.steps
    for gate, wanted in steps[name].when.items():
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
    return StepRequest(
        pipeline=expansion.spec.pipeline,
        pipeline_digest=expansion.digest,
        step=name,
        component=step.component,
        config=step.config,
        params=dict(params),
        inputs=inputs,
        resources=step.resources,
    )
