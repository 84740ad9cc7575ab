"""What a run of a pipeline will take, before it starts: from what its steps have taken before.

Steps whose results are there already are found as the run itself would find them: they take nothing, and
neither does what is skipped by a verdict among those results. For every other one the last finished runs of
the same step are looked up, in a group with ``for_each`` those of its other copies, too, and their median is
the forecast. What a step takes is a matter of where it runs: runs of this machine and interpreter go before
those of this machine, and those before others; they are not mixed, and the forecast says on which it stands.
How far off it is, is measured in the same way: what would have been forecast for each of those runs from the
ones before it, against what it took. A step that has never run is not known, and neither is the total then:
it is at least what the others take. What a language model's endpoint will bill is told in the same way, and
its budget, which holds from the first run on.
"""

from __future__ import annotations

import platform
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from modelmill.artifacts import AnyReference
from modelmill.options import Record
from modelmill.pipeline.catalogue import component_named
from modelmill.pipeline.checked_request import checked_config
from modelmill.pipeline.expansion import Expansion, expand
from modelmill.pipeline.local_run import request_for, request_with, skip_reason
from modelmill.pipeline.placeholders import placeholders
from modelmill.pipeline.request import StepRequest
from modelmill.pipeline.reuse import ReuseAnswer, reusable
from modelmill.pipeline.spec import ParamValue, PipelineSpec
from modelmill.registry.mlflow_calls import mlflow_errors
from modelmill.registry.tracking import TAG_HOST, TAG_PYTHON, tracking_client
from modelmill.settings import Settings
from modelmill.system.usage import CPU_SECONDS, DISK_MB, MEMORY_MB, SECONDS

if TYPE_CHECKING:
    from mlflow.entities import Run

RUNS = 5
"""Past runs of a step that are looked at, the newest."""
_SEARCHED = 1000
"""Runs of a pipeline in one answer of MLflow, the newest."""
_OF_ONE_STEP = 100
"""Runs of a step that is not among them."""
_MEASURES = (SECONDS, CPU_SECONDS, MEMORY_MB, DISK_MB)

Ask = Callable[[Sequence[StepRequest]], Sequence[ReuseAnswer] | None]
Where = Literal["here", "this host", "elsewhere"]
_Idle = Literal["reused", "skipped"]


class Amount(Record):
    """What a step, or a run, takes of one thing."""

    expected: float
    error: float | None
    """Median of the relative errors of the forecasts of past runs, 0.1 for 10 %; None: there was none, as
    after one run."""


class Bill(Record):
    """What others will bill for a step, or for a run: a language model's endpoint."""

    unit: Literal["money", "tokens"]
    """Money is in the currency of the prices in the step's configuration."""
    expected: Amount | None
    """By the bills of earlier runs; None: there was none."""
    at_most: float
    """The step's budget: no bill is higher."""


class StepForecast(Record):
    """What a step will take."""

    step: str
    component: str
    state: Literal["reused", "skipped", "known", "unknown"]
    """``reused``: its result is there already; ``skipped``: so is a verdict on which it does not run;
    ``unknown``: it has never run."""
    from_runs: int
    """Past runs that the forecast is made of."""
    where: Where | None
    """Where those runs were: ``here`` on this machine with the interpreter that will run the step, ``this
    host`` with another one, ``elsewhere`` on another machine, or one that the runs do not name."""
    of_copies: bool
    """Whether they are runs of other copies of the step, since this one has none."""
    seconds: Amount | None
    cpu_seconds: Amount | None
    memory_mb: Amount | None
    """Most memory, in 10⁶ bytes."""
    disk_mb: Amount | None
    """What lies in its work directory at its end, in 10⁶ bytes. All four are None unless it is known."""
    bill: Bill | None
    """None: it does not run, nobody bills it, or a parameter of its configuration has no value yet."""


class RunForecast(Record):
    """What a run of a pipeline will take."""

    pipeline: str
    jobs: int
    steps: tuple[StepForecast, ...]
    unknown: tuple[str, ...]
    """Steps that nothing is known of. If there are any, the amounts are those of the others: the least."""
    seconds: Amount
    """From the first step's begin to the last one's end, with so many steps side by side."""
    cpu_seconds: Amount
    memory_mb: Amount
    """Of the largest steps that may run side by side, together."""
    disk_mb: Amount
    """Of all work directories together: more than there is at any time, since a step empties its own."""
    is_reuse_known: bool
    """Whether it is known which results are there; else steps are said to run that may not."""

    @property
    def bills(self) -> tuple[Bill, ...]:
        """What all steps together will be billed, for each unit; what is expected only if it is of all."""
        found: dict[str, list[Bill]] = {}
        for step in self.steps:
            if step.bill:
                found.setdefault(step.bill.unit, []).append(step.bill)
        return tuple(_sum_of_bills(bills) for bills in found.values())


def forecast(
    spec: PipelineSpec,
    *,
    settings: Settings,
    params: Mapping[str, ParamValue] | None = None,
    jobs: int = 1,
    ask: Ask | None = None,
) -> RunForecast:
    """Return what a run of a pipeline will take on this machine.

    :param spec: a valid pipeline.
    :param settings: where MLflow is.
    :param params: parameter values of the run.
    :param jobs: how many steps may run side by side, at least 1.
    :param ask: says which steps have results already, or None where it cannot tell. By default this process
        looks, unless another interpreter runs the steps: what that has installed decides their keys.
    :return: the forecast.
    :raises ConfigError: if MLflow does not let us in.
    :raises TransientError: if MLflow does not answer.
    """
    expansion = expand(spec)
    values = spec.param_values(params)
    reused, skipped, is_known = _there(expansion, values, ask or (lambda asked: _look(asked, settings)))
    idle: dict[str, _Idle] = {**dict.fromkeys(reused, "reused"), **dict.fromkeys(skipped, "skipped")}
    with mlflow_errors(settings.tracking_uri):
        past = _past(expansion, settings)
    steps = tuple(
        _step(name, expansion, past, values, python=settings.python, idle=idle.get(name))
        for name in expansion.spec.order()
    )
    known = {step.step: step for step in steps if step.state == "known"}
    return RunForecast(
        pipeline=spec.pipeline,
        jobs=jobs,
        steps=steps,
        unknown=tuple(step.step for step in steps if step.state == "unknown"),
        seconds=_total([step.seconds for step in known.values()], _makespan(expansion, known, jobs)),
        cpu_seconds=_total([step.cpu_seconds for step in known.values()]),
        memory_mb=_memory([step.memory_mb for step in known.values()], jobs),
        disk_mb=_total([step.disk_mb for step in known.values()]),
        is_reuse_known=is_known,
    )


def _look(requests: Sequence[StepRequest], settings: Settings) -> Sequence[ReuseAnswer] | None:
    return reusable(requests, settings) if settings.python == sys.executable else None


def _there(
    expansion: Expansion, params: Mapping[str, ParamValue], ask: Ask
) -> tuple[dict[str, dict[str, AnyReference]], set[str], bool]:
    """Return the outputs of the steps that will be reused, what is skipped, and whether anybody could tell.

    A step is asked about as soon as its inputs are known.
    """
    outputs: dict[str, dict[str, AnyReference]] = {}
    skipped: set[str] = set()
    needs, waiting = expansion.spec.needs(), expansion.spec.order()
    while True:
        for name in waiting:  # in the order of the edges: what needs a skipped step comes after it
            if skip_reason(expansion, name, skipped.intersection(needs[name]), outputs):
                skipped.add(name)
        waiting = [name for name in waiting if name not in skipped]
        ready = [name for name in waiting if set(needs[name]) <= outputs.keys()]
        if not ready:
            return outputs, skipped, True
        answers = ask([request_for(expansion, name, params, outputs) for name in ready])
        if answers is None:
            return outputs, skipped, False
        waiting = [name for name in waiting if name not in ready]
        for name, answer in zip(ready, answers, strict=True):
            if answer.result:
                outputs[name] = answer.result.outputs


def _past(expansion: Expansion, settings: Settings) -> dict[str, list[Run]]:
    """Return the finished runs of each step, the newest first."""
    client = tracking_client(settings.tracking_uri)
    experiment = client.get_experiment_by_name(expansion.spec.pipeline)
    found: dict[str, list[Run]] = {}
    if experiment is None:
        return found

    def look(condition: str, most: int) -> int:
        runs = client.search_runs(
            [experiment.experiment_id],
            filter_string=f"attributes.status = 'FINISHED'{condition}",
            order_by=["attributes.end_time DESC"],
            max_results=most,
        )
        for run in runs:
            if SECONDS in run.data.metrics:
                found.setdefault(str(run.data.tags.get("modelmill.step", "")), []).append(run)
        return len(runs)

    if look("", _SEARCHED) == _SEARCHED:  # what does not run each night may be older
        told = {expansion.origins[step].of for step in found if step in expansion.origins}
        for origin in dict.fromkeys(expansion.origins.values()):
            if origin.of not in told:
                told.add(origin.of)
                names = f"LIKE '{origin.of}__%'" if origin.value is not None else f"= '{origin.of}'"
                look(f" AND tags.`modelmill.step` {names}", _OF_ONE_STEP)
    return found


def _step(
    name: str,
    expansion: Expansion,
    past: Mapping[str, list[Run]],
    params: Mapping[str, ParamValue],
    *,
    python: str,
    idle: _Idle | None,
) -> StepForecast:
    component = expansion.spec.steps[name].component
    own = _alike(past.get(name, ()), component)
    where, runs = _nearest(own or _of_copies(name, expansion, past), python)
    known = idle is None and bool(runs)
    amounts = {
        measure: _amount([run.data.metrics[measure] for run in runs if measure in run.data.metrics])
        for measure in _MEASURES
        if known
    }
    return StepForecast(
        step=name,
        component=component,
        state=idle or ("known" if known else "unknown"),
        from_runs=len(runs) if known else 0,
        where=where if known else None,
        of_copies=known and not own,
        seconds=amounts.get(SECONDS),
        cpu_seconds=amounts.get(CPU_SECONDS),
        memory_mb=amounts.get(MEMORY_MB),
        disk_mb=amounts.get(DISK_MB),
        bill=None if idle else _bill(name, expansion, params, runs),
    )


def _bill(
    name: str, expansion: Expansion, params: Mapping[str, ParamValue], runs: Sequence[Run]
) -> Bill | None:
    step = expansion.spec.steps[name]
    component = component_named(step.component)
    is_open = any(params.get(one) is None for one in placeholders(step.config))
    if component.budget is None or is_open:  # the run itself asks for what has no value yet
        return None
    budget = component.budget(checked_config(component, request_with({}, expansion, name, params)))
    if budget is None:
        return None
    paid = [run.data.metrics[budget.metric] for run in runs if budget.metric in run.data.metrics]
    return Bill(unit=budget.unit, expected=_amount(paid), at_most=budget.limit)


def _sum_of_bills(bills: Sequence[Bill]) -> Bill:
    expected = [bill.expected for bill in bills]
    return Bill(
        unit=bills[0].unit,
        expected=_total(expected) if all(expected) else None,
        at_most=sum(bill.at_most for bill in bills),
    )


def _alike(runs: Sequence[Run], component: str) -> list[Run]:
    return [run for run in runs if run.data.tags.get("modelmill.component") == component]


def _nearest(runs: Sequence[Run], python: str) -> tuple[Where, list[Run]]:
    """Return the newest runs of the place that is most like this one, and which place that is."""
    found: dict[Where, list[Run]] = {"here": [], "this host": [], "elsewhere": []}
    for run in runs:
        tags = run.data.tags
        is_here = tags.get(TAG_HOST) == platform.node()
        place: Where = "elsewhere"
        if is_here:
            place = "here" if tags.get(TAG_PYTHON) == python else "this host"
        found[place].append(run)
    where: Where = next((place for place, those in found.items() if those), "elsewhere")
    return where, found[where][:RUNS]


def _of_copies(name: str, expansion: Expansion, past: Mapping[str, list[Run]]) -> list[Run]:
    """Return the newest runs of the other copies of a step."""
    origin = expansion.origins[name].of
    others = [other for other, found in expansion.origins.items() if found.of == origin and other != name]
    runs = [run for other in others for run in past.get(other, ())]
    newest = sorted(runs, key=lambda run: int(run.info.end_time or 0), reverse=True)
    return _alike(newest, expansion.spec.steps[name].component)


def _amount(values: Sequence[float]) -> Amount | None:
    """Return the forecast from past values, the newest first, and how far off such forecasts were."""
    if not values:
        return None
    errors = [
        abs(statistics.median(values[place + 1 :]) - value) / value
        for place, value in enumerate(values[:-1])
        if value
    ]
    return Amount(expected=statistics.median(values), error=statistics.median(errors) if errors else None)


def _total(amounts: Sequence[Amount | None], expected: float | None = None) -> Amount:
    """Return the sum. Its error is at most the sum of the parts' errors: what is said is that bound."""
    found = [amount for amount in amounts if amount]
    total = sum(amount.expected for amount in found)
    off = [amount.error * amount.expected for amount in found if amount.error is not None]
    error = sum(off) / total if total and len(off) == len(found) else None
    return Amount(expected=total if expected is None else expected, error=error)


def _memory(amounts: Sequence[Amount | None], jobs: int) -> Amount:
    largest = sorted((one for one in amounts if one), key=lambda one: one.expected, reverse=True)[:jobs]
    return _total(largest)


def _makespan(expansion: Expansion, known: Mapping[str, StepForecast], jobs: int) -> float:
    """Return when the last step ends, if each starts as ``modelmill run`` would start it."""
    needs, waiting = expansion.spec.needs(), expansion.spec.order()
    ends: dict[str, float] = {}
    running: dict[str, float] = {}
    now = 0.0
    while waiting or running:
        for name in _ready(waiting, needs, ends):
            amount = known[name].seconds if name in known else None
            if amount is None:
                ends[name] = now
                waiting.remove(name)
                break  # others may be ready now
            if len(running) < jobs:
                running[name] = now + amount.expected
                waiting.remove(name)
        else:
            if running:
                first = min(running, key=lambda name: running[name])
                now = ends[first] = running.pop(first)
    return now


def _ready(waiting: Sequence[str], needs: Mapping[str, set[str]], ends: Mapping[str, float]) -> Iterator[str]:
    return iter([name for name in waiting if needs[name] <= ends.keys()])
