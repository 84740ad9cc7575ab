"""Running a whole pipeline without an orchestrator: for development and tests. One step after the other."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from modelmill.artifacts import AnyReference
from modelmill.pipeline.process import StepProcess
from modelmill.pipeline.request import InputValue, StepRequest, StepResult
from modelmill.pipeline.spec import ParamValue, PipelineSpec
from modelmill.settings import Settings


def run_pipeline(
    spec: PipelineSpec,
    *,
    settings: Settings,
    params: Mapping[str, ParamValue] | None = None,
    say: Callable[[str], None] = print,
) -> dict[str, StepResult]:
    """Run every step in the order of the edges; finished steps whose inputs are the same are reused.

    :param spec: a valid pipeline.
    :param settings: where things are kept.
    :param params: parameter values for this run.
    :param say: gets each line to show.
    :return: the result of each step, by step id.
    :raises InputError: if a step refuses its input.
    :raises TransientError: if a step fails in another way.
    """
    values = spec.param_values(params)
    results: dict[str, StepResult] = {}
    for name in spec.order():
        began = time.monotonic()
        request = request_for(spec, name, values, {step: result.outputs for step, result in results.items()})
        results[name] = StepProcess(request, python=settings.python).run(say)
        state = "reused" if results[name].reused else "done"
        say(f"[{len(results)}/{len(spec.steps)}] {name}: {state} in {time.monotonic() - began:.1f} s")
    return results


def request_for(
    spec: PipelineSpec,
    name: str,
    params: Mapping[str, ParamValue],
    outputs: Mapping[str, Mapping[str, AnyReference]],
) -> StepRequest:
    """Return the request for one step of a pipeline.

    :param spec: the pipeline.
    :param name: the step's id.
    :param params: value of each parameter.
    :param outputs: references by step id and output port, for every step that this one depends on.
    :return: the request.
    """

    def follow(source: str) -> AnyReference:
        step, _, port = source.partition(".")
        return outputs[step][port]

    inputs: dict[str, InputValue] = {
        port: follow(sources) if isinstance(sources, str) else tuple(map(follow, sources))
        for port, sources in spec.steps[name].inputs.items()
    }
    return StepRequest(
        pipeline=spec.pipeline,
        pipeline_digest=spec.digest,
        step=name,
        component=spec.steps[name].component,
        config=spec.steps[name].config,
        params=dict(params),
        inputs=inputs,
        resources=spec.steps[name].resources,
    )
