"""A run without Airflow: steps side by side, what a failure stops, and steps that are reused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from modelmill.errors import InputError, TransientError
from modelmill.pipeline import local_run
from modelmill.pipeline.local_run import StepEnd, _failure, run_pipeline
from modelmill.pipeline.step_process import StepRefusedError
from modelmill.pipeline.validation import parse_pipeline
from modelmill.settings import Settings

pytestmark = pytest.mark.usefixtures("toy_components")

SIGNALS = """
pipeline: signals
groups:
  each: {{steps: [made, read], for_each: {{signal: [{signals}]}}}}
steps:
  made:
    component: count
    config: {{journal: "{folder}/${{signal}}", behaviour: "${{signal}}"}}
  read: {{component: count, inputs: {{table: made.table}}, config: {{journal: "{folder}/read_${{signal}}"}}}}
  all: {{component: gather, inputs: {{tables: read.table}}}}
"""


def run_signals(
    folder: Path, settings: Settings, *, signals: str = "one, two", jobs: int = 1
) -> tuple[dict[str, StepEnd], InputError | TransientError | None]:
    ends: dict[str, StepEnd] = {}
    spec = parse_pipeline(SIGNALS.format(folder=folder, signals=signals))
    try:
        results = run_pipeline(
            spec,
            settings=settings,
            jobs=jobs,
            say=lambda line: None,
            on_end=lambda end: ends.update({end.step: end}),
        )
    except (InputError, TransientError) as error:
        return ends, error
    assert results == {name: end.result for name, end in ends.items()}
    return ends, None


def states(ends: dict[str, StepEnd]) -> dict[str, str]:
    return {name: end.state for name, end in ends.items()}


def test_steps_run_side_by_side(tmp_path: Path, settings: Settings) -> None:
    journal = tmp_path / "journal"
    step = "{{component: count, config: {{journal: {0}, number: {1}, behaviour: meet}}}}"
    # Each of them waits until the other has begun.
    spec = parse_pipeline(
        f"pipeline: both\nsteps:\n  a: {step.format(journal, 1)}\n  b: {step.format(journal, 2)}\n"
    )
    said: list[str] = []
    results = run_pipeline(spec, settings=settings, jobs=2, say=said.append)
    assert {name: result.outputs["table"].version for name, result in results.items()} == {"a": 1, "b": 2}
    assert {"a: attempt 1 of a", "b: attempt 1 of b"} <= set(said)


@pytest.mark.parametrize("jobs", [1, 3])
def test_a_failure_stops_only_what_depends_on_it(jobs: int, tmp_path: Path, settings: Settings) -> None:
    ends, error = run_signals(tmp_path, settings, signals="refuse, work, flaky", jobs=jobs)
    assert isinstance(error, TransientError)  # one of them may be right when it is tried again
    assert str(error).startswith("2 steps failed: ")
    assert "step 'made__refuse': a number must be even; got 0; add one" in str(error)
    assert "step 'made__flaky' ended with exit status 1: the weather must be fine" in str(error)
    assert states(ends) == {
        "made__refuse": "failed",
        "made__work": "done",
        "made__flaky": "failed",
        "read__refuse": "upstream_failed",
        "read__work": "done",
        "read__flaky": "upstream_failed",
        "all": "upstream_failed",
    }


def test_several_refusals_are_a_refusal() -> None:
    errors = {name: StepRefusedError(f"step {name!r}: no") for name in ("a", "b")}
    error = _failure(errors)
    assert isinstance(error, InputError)
    assert str(error) == "2 steps failed: step 'a': no; step 'b': no"


def test_one_error_is_raised_as_it_is(tmp_path: Path, settings: Settings) -> None:
    with pytest.raises(TransientError, match="step 'a' ended with exit status 1: the weather must be fine"):
        run_pipeline(
            parse_pipeline(
                f"pipeline: one\nsteps: {{a: {{component: count, config: "
                f"{{journal: {tmp_path}/j, behaviour: flaky}}}}}}"
            ),
            settings=settings,
            say=lambda line: None,
        )


def test_steps_that_are_reused_start_no_process(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = run_signals(tmp_path, settings, jobs=2)
    assert set(states(first).values()) == {"done"}

    def started(*_arguments: object, **_options: object) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr(local_run, "StepProcess", started)
    again, error = run_signals(tmp_path, settings)
    assert error is None
    assert set(states(again).values()) == {"reused"}
    outputs = {name: end.result.outputs for name, end in first.items() if end.result}
    assert {name: end.result.outputs for name, end in again.items() if end.result} == outputs


def test_what_another_interpreter_would_reuse_is_asked_there(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "python"
    other.write_text(f'#!/bin/sh\nexec {settings.python} "$@"\n')
    other.chmod(0o755)
    monkeypatch.setattr(local_run, "reusable", lambda *_: pytest.fail("asked in this process"))
    ends, error = run_signals(tmp_path, replace(settings, python=str(other)))
    assert error is None
    assert set(states(ends).values()) == {"done"}
