"""Asking for many steps at once whether their results are there already, without running anything.

It only reads, so whoever has many steps to start asks in its own process: 0.01 to 0.1 CPU seconds a step,
instead of the 3 to 4 that a process takes to start, import MLflow and ask the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from modelmill.pipeline.checked_step import CheckedStep
from modelmill.pipeline.request import StepRequest, StepResult
from modelmill.registry.finished_runs import (
    FinishedRun,
    RunPlace,
    finished_run,
    finished_runs,
    remembered,
)
from modelmill.registry.tracking import find_finished, find_runs, tracking_client
from modelmill.settings import Settings, is_served


@dataclass(frozen=True)
class ReuseAnswer:
    """What is known of a step before it is started."""

    result: StepResult | None
    """None: the step has to be started. It then finds out by itself what is wrong, or what has changed."""
    lines: tuple[str, ...] = ()
    """What to show of a result that is reused."""


def reusable(requests: Sequence[StepRequest], settings: Settings) -> list[ReuseAnswer]:
    """Return the results of the finished runs that have the same step keys, as far as they may be reused.

    Runs that this work directory remembers are asked for together, in one question for hundreds of steps; the
    tracking store says what they yielded, so a run that somebody has deleted is not reused. Others are looked
    for by their step keys, one by one. Who is champion is asked for all models together.

    :param requests: what would run. A request that is wrong in any way gets no result: errors are the step's.
    :param settings: where things are kept.
    :return: an answer for each request.
    """
    from modelmill.registry.champion_look import one_look  # what it needs is heavy for who only imports this

    with one_look():
        return _reusable(requests, settings)


def _reusable(requests: Sequence[StepRequest], settings: Settings) -> list[ReuseAnswer]:
    lines: list[list[str]] = [[] for _ in requests]
    steps = [_checked(request, settings, said) for request, said in zip(requests, lines, strict=True)]
    known = {step.asked: remembered(settings.home, step.asked) for step in steps if step}
    runs = _finished(settings, [place for place in known.values() if place])
    answers = []
    for step, said in zip(steps, lines, strict=True):
        place = known[step.asked] if step else None
        result = _result(step, runs.get(place.run_id) if place else None) if step else None
        answers.append(ReuseAnswer(result, tuple(said)) if result else ReuseAnswer(None))
    return answers


def _checked(request: StepRequest, settings: Settings, said: list[str]) -> CheckedStep | None:
    try:
        return CheckedStep.of(request, settings, said.append)
    except Exception:  # code of a component, too: whatever it is, the step itself says it
        return None


def _finished(settings: Settings, places: Sequence[RunPlace]) -> dict[str, FinishedRun]:
    if not places:
        return {}
    try:
        if is_served(settings.tracking_uri):
            return finished_runs(settings.tracking_uri, places)
        return find_runs(tracking_client(settings.tracking_uri), places)
    except Exception:
        return {}


def _result(step: CheckedStep, found: FinishedRun | None) -> StepResult | None:
    """Return the result that may be reused: of the run that is known, else of one with the same step key."""
    try:
        for run in _candidates(step, found):
            if result := step.reused(run, remembered=run is found):
                return result
    except Exception:
        return None
    return None


def _candidates(step: CheckedStep, found: FinishedRun | None) -> Iterator[FinishedRun]:
    if found:
        yield found
    other = _searched(step)
    if other and (found is None or other.run_id != found.run_id):
        yield other


def _searched(step: CheckedStep) -> FinishedRun | None:
    uri, pipeline = step.settings.tracking_uri, step.request.pipeline
    if is_served(uri):
        return finished_run(uri, pipeline, step.key)
    client = tracking_client(uri)
    experiment = client.get_experiment_by_name(pipeline)
    return find_finished(client, experiment.experiment_id, step.key) if experiment else None
