"""``modelmill forecast``: what a run of a pipeline will take, before it starts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from modelmill.cli.params import given_params
from modelmill.settings import Settings

if TYPE_CHECKING:
    from modelmill.pipeline.forecast import Amount, Bill, RunForecast, StepForecast, Where


_WHERE: Mapping[Where, str] = {
    "here": "",
    "this host": ", with another interpreter",
    "elsewhere": ", on another machine",
}


def forecast(
    pipeline: Annotated[str, typer.Argument(help="Path or fsspec URL of a pipeline (YAML or JSON).")],
    param: Annotated[list[str] | None, typer.Option(help="Value of a parameter: NAME=VALUE.")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="How many steps may run side by side.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Tell what a run will take: time, CPU, memory, disk and money, from what its steps have taken before."""
    from modelmill.pipeline.forecast import forecast as foretold
    from modelmill.pipeline.validation import load_pipeline

    spec = load_pipeline(pipeline)
    found = foretold(spec, settings=Settings.from_environment(), params=given_params(param or []), jobs=jobs)
    typer.echo(found.model_dump_json(indent=2) if as_json else _text(found))


def _text(found: RunForecast) -> str:
    width = max(map(len, ("step", *(step.step for step in found.steps))))
    lines = [f"{'step':{width}}  {'time':>16}  {'CPU':>16}  {'memory':>16}  {'disk':>16}"]
    lines += [f"{step.step:{width}}  {_step(step)}" for step in found.steps]
    least = "at least " if found.unknown else ""
    amounts = {
        "": _time(found.seconds),
        "CPU ": _time(found.cpu_seconds),
        "memory ": _size(found.memory_mb),
        "disk ": _size(found.disk_mb),
    }
    total = ", ".join(f"{name}{amount}" for name, amount in amounts.items())
    lines += ["", f"{found.pipeline} with {found.jobs} side by side: {least}{total}"]
    lines += [f"a language model will be paid {_bill(bill)}" for bill in found.bills]
    if not found.is_reuse_known:
        lines.append(
            "which results are there is not known: another interpreter (MODELMILL_PYTHON) runs the steps"
        )
    if found.unknown:
        lines.append(f"not known, since they have never run: {', '.join(found.unknown)}")
    lines.append("± is the median error of the forecasts of past runs; ? after one run, which has none.")
    return "\n".join(lines)


def _step(step: StepForecast) -> str:
    if step.state == "reused":
        return "reused: its result is there already"
    if step.state == "skipped":
        return "skipped: a verdict that is there already says so"
    if step.state == "unknown" or not step.seconds or not step.cpu_seconds:
        return "not known: it has never run"
    cells = [_time(step.seconds), _time(step.cpu_seconds)]
    cells += ["" if amount is None else _size(amount) for amount in (step.memory_mb, step.disk_mb)]
    runs = f"{step.from_runs} {'run' if step.from_runs == 1 else 'runs'}"
    told = f"from {runs}{' of copies' if step.of_copies else ''}{_WHERE[step.where or 'here']}"
    return "  ".join(f"{cell:>16}" for cell in cells) + f"  {told}"


def _time(amount: Amount) -> str:
    seconds = amount.expected
    shown = f"{seconds:.1f} s" if seconds < 120 else f"{seconds / 60:.1f} min"
    return shown + _error(amount)


def _size(amount: Amount) -> str:
    return f"{amount.expected:,.0f} MB" + _error(amount)


def _bill(bill: Bill) -> str:
    def shown(value: float) -> str:
        return f"{value:,.0f} tokens" if bill.unit == "tokens" else f"{value:,.4f}"

    limit = f"at most {shown(bill.at_most)}, the budget"
    if bill.expected is None:
        return f"{limit}; how much is not known: its step has never run, and tells it after its pilot"
    return f"{shown(bill.expected.expected)}{_error(bill.expected)}, {limit}"


def _error(amount: Amount) -> str:
    if not amount.expected:
        return ""
    return " ± ?" if amount.error is None else f" ± {amount.error:.0%}".replace("%", " %")
