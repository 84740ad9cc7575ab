"""Steps run in their own process, are reused by key, and leave nothing behind when they are refused."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from modelmill.artifacts import TableRef
from modelmill.errors import ConfigError, TransientError
from modelmill.pipeline import runner
from modelmill.pipeline.forked_steps import StepServer
from modelmill.pipeline.local_run import run_pipeline
from modelmill.pipeline.progress import ProgressPrinter
from modelmill.pipeline.request import StepRequest, StepResult
from modelmill.pipeline.runner import run_step
from modelmill.pipeline.step_process import StepProcess, StepRefusedError
from modelmill.pipeline.validation import parse_pipeline
from modelmill.registry.retention import TAG_INPUTS
from modelmill.registry.tracking import TAG_OUTPUTS, TrackedRun, open_run, tracking_client
from modelmill.settings import Settings

pytestmark = pytest.mark.usefixtures("toy_components")


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "journal"


def request_of(journal: Path, **config: object) -> StepRequest:
    config = {"journal": str(journal), **config}
    return StepRequest(pipeline="toy", step="a", component="count", config=config)


def run_in_process(request: StepRequest, settings: Settings) -> tuple[StepResult, list[str]]:
    lines: list[str] = []
    return StepProcess(request, python=settings.python).run(lines.append), lines


def runs(settings: Settings) -> list[tuple[str, str]]:
    client = tracking_client(settings.tracking_uri)
    ids = [experiment.experiment_id for experiment in client.search_experiments()]
    return [(run.info.run_id, run.info.status) for run in client.search_runs(ids)]


def test_a_step_yields_references_and_a_finished_run(journal: Path, settings: Settings) -> None:
    result, lines = run_in_process(request_of(journal, number=3), settings)
    assert result.outputs == {"table": TableRef(uri="/toy", version=3)}
    assert not result.reused
    assert "attempt 1 of a" in lines
    (run,) = runs(settings)
    assert run == (result.run_id, "FINISHED")
    data = tracking_client(settings.tracking_uri).get_run(result.run_id).data
    assert data.params["number"] == "3"
    assert '"version": 3' in data.tags[TAG_OUTPUTS]


def test_the_same_step_is_reused_and_another_one_is_not(journal: Path, settings: Settings) -> None:
    first = run_step(request_of(journal, number=1), settings)
    checkpoint = settings.home / "steps" / first.step_key / "of_a_dead_attempt"
    checkpoint.touch()
    again = run_step(request_of(journal, number=1), settings)
    other = run_step(request_of(journal, number=2), settings)
    assert again.reused
    assert not checkpoint.exists()
    assert again.outputs == first.outputs
    assert again.run_id == first.run_id
    assert not other.reused
    assert journal.read_text() == "a\na\n"


def test_an_attempt_that_was_paused_before_its_run_takes_over_what_another_machine_has_made(
    journal: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    request, made = request_of(journal, number=1), list[StepResult]()

    def wakes_up(*args: Any, **kwargs: Any) -> TrackedRun:
        monkeypatch.setattr(runner, "open_run", open_run)
        made.append(run_step(request, replace(settings, home=settings.home / "elsewhere")))
        return open_run(*args, **kwargs)

    monkeypatch.setattr(runner, "open_run", wakes_up)
    late = run_step(request, settings)
    assert late.reused
    assert runs(settings) == [(made[0].run_id, "FINISHED")] == [(late.run_id, "FINISHED")]
    assert journal.read_text() == "a\n"


def test_a_refused_input_leaves_no_run_and_says_why(journal: Path, settings: Settings) -> None:
    with pytest.raises(StepRefusedError, match="a number must be even; got 3; add one") as caught:
        run_in_process(request_of(journal, number=3, behaviour="refuse"), settings)
    assert not caught.value.retryable
    assert runs(settings) == []


def test_a_killed_attempt_is_resumed_in_the_same_run(journal: Path, settings: Settings) -> None:
    request = request_of(journal, number=1, behaviour="die")
    with pytest.raises(TransientError, match="signal SIGKILL"):
        run_in_process(request, settings)
    ((dead, status),) = runs(settings)
    assert status == "RUNNING"
    result, _ = run_in_process(request, settings)
    assert result.run_id == dead
    assert runs(settings) == [(dead, "FINISHED")]
    leftovers = [path.name for path in (settings.home / "steps" / result.step_key).iterdir()]
    assert leftovers == ["lock"]


def test_a_failed_attempt_is_retried_in_the_same_run(journal: Path, settings: Settings) -> None:
    request = request_of(journal, behaviour="flaky")
    with pytest.raises(TransientError, match="the weather must be fine"):
        run_in_process(request, settings)
    result, _ = run_in_process(request, settings)
    assert runs(settings) == [(result.run_id, "FINISHED")]


def test_a_step_that_yields_something_else_is_named(journal: Path, settings: Settings) -> None:
    with pytest.raises(TypeError, match="run of component count must return Table, not NoneType"):
        run_step(request_of(journal, behaviour="nothing"), settings)
    assert [status for _, status in runs(settings)] == ["FAILED"]


@pytest.mark.parametrize("forked", [False, True])
def test_stopping_ends_the_whole_group_and_marks_the_run(
    forked: bool, journal: Path, settings: Settings
) -> None:
    server = StepServer() if forked else None
    process = StepProcess(request_of(journal, behaviour="sleep"), python=settings.python, server=server)
    failure: list[BaseException] = []

    def body() -> None:
        try:
            process.run(lambda line: None)
        except TransientError as error:
            failure.append(error)

    thread = threading.Thread(target=body)
    thread.start()
    pid_file = journal.with_suffix(".pid")
    deadline = time.monotonic() + 60
    while not (pid_file.exists() and pid_file.read_text()) and time.monotonic() < deadline:
        time.sleep(0.1)
    grandchild = int(pid_file.read_text())
    process.stop()
    thread.join(60)
    assert failure
    assert not _alive(grandchild)
    ((_, status),) = runs(settings)
    assert status == "KILLED"
    if server:
        server.close()


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL], ids=lambda sent: sent.name)
def test_a_run_that_is_stopped_from_outside_leaves_no_step_running(
    sent: signal.Signals, tmp_path: Path, journal: Path, settings: Settings
) -> None:
    step = f"{{component: count, config: {{journal: {journal}, behaviour: sleep}}}}"
    (tmp_path / "toy.yaml").write_text(f"pipeline: toy\nsteps: {{a: {step}}}\n")
    command = [sys.executable, "-m", "modelmill", "run", str(tmp_path / "toy.yaml")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        pid_file = journal.with_suffix(".pid")
        deadline = time.monotonic() + 120
        while not (pid_file.exists() and pid_file.read_text()) and time.monotonic() < deadline:
            time.sleep(0.1)
        if process.stdout:
            process.stdout.close()  # nobody reads what is printed from now on
        process.send_signal(sent)
        process.wait(60)
    deadline = time.monotonic() + 60
    while runs(settings)[0][1] == "RUNNING" and time.monotonic() < deadline:
        time.sleep(0.1)
    ((_, status),) = runs(settings)
    assert status == "KILLED"


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_two_processes_with_the_same_key_run_it_once(journal: Path, settings: Settings) -> None:
    results: list[StepResult] = []
    threads = [
        threading.Thread(target=lambda: results.append(run_in_process(request_of(journal), settings)[0]))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert [result.run_id for result in results] == [results[0].run_id] * 2
    assert journal.read_text() == "a\n"


def test_a_whole_pipeline_runs_and_the_second_time_nothing_does(journal: Path, settings: Settings) -> None:
    spec = parse_pipeline(f"""
pipeline: toy
params: {{number: {{default: 2}}}}
steps:
  last: {{component: count, inputs: {{table: first.table}}, config: {{journal: {journal}, number: 10}}}}
  first: {{component: count, config: {{journal: {journal}, number: "${{number}}"}}}}
""")
    said: list[str] = []
    results = run_pipeline(spec, settings=settings, say=said.append)
    assert list(results) == ["first", "last"]
    assert results["last"].outputs["table"].version == 12
    again = run_pipeline(spec, settings=settings, say=said.append)
    assert all(result.reused for result in again.values())
    changed = run_pipeline(spec, settings=settings, params={"number": 3}, say=said.append)
    assert [result.reused for result in changed.values()] == [False, False]
    assert changed["last"].outputs["table"].version == 13


def test_one_edge_will_do_for_a_port_that_takes_several(settings: Settings) -> None:
    table = TableRef(uri="/toy", version=3)
    for given in (table, (table,)):
        request = StepRequest(pipeline="toy", step="a", component="gather", inputs={"tables": given})
        result = run_step(request, settings)
        assert result.outputs == {"table": table}
        tags = tracking_client(settings.tracking_uri).get_run(result.run_id).data.tags
        assert tags[TAG_INPUTS] == "\n/toy@3"  # while it runs, nobody removes that version


BRANCHES = """
pipeline: branches
params: {{most: {{default: 10}}}}
groups:
  each:
    steps: [counted, verdict, kept, redone]
    for_each: {{number: [1, 20]}}
steps:
  counted: {{component: count, config: {{journal: {journal}, number: "${{number}}"}}}}
  verdict:
    component: judge
    inputs: {{table: counted.table}}
    config: {{name: "of_${{number}}", most: "${{most}}"}}
  kept:
    component: count
    inputs: {{table: counted.table}}
    when: {{verdict: accepted}}
    config: {{journal: {journal}}}
  redone: {{component: count, when: {{verdict: refused}}, config: {{journal: {journal}, number: 5}}}}
  every: {{component: gather, inputs: {{tables: counted.table}}}}
  all_kept: {{component: gather, inputs: {{tables: [every.table, kept.table]}}}}
  last: {{component: count, inputs: {{table: all_kept.table}}, config: {{journal: {journal}}}}}
"""


def test_every_copy_runs_and_conditions_skip_what_depends_on_them(journal: Path, settings: Settings) -> None:
    spec = parse_pipeline(BRANCHES.format(journal=journal))
    said: list[str] = []
    results = run_pipeline(spec, settings=settings, say=said.append)
    ran = {"counted__1", "counted__20", "verdict__1", "verdict__20", "kept__1", "redone__20", "every"}
    assert set(results) == ran
    assert results["every"].outputs["table"].version == 21
    states = [line for line in said if line.startswith("[")]
    assert len(states) == 11
    skipped = [line.partition(" ")[2] for line in states if "skipped" in line]
    assert sorted(skipped) == [
        "all_kept: skipped: kept__20 was skipped",
        "kept__20: skipped: of_20 was refused, and this step runs if it is accepted",
        "last: skipped: all_kept was skipped",
        "redone__1: skipped: of_1 was accepted, and this step runs if it is refused",
    ]

    # A condition, a group and a name are no part of what a step makes.
    alone = parse_pipeline(f"""
pipeline: branches
steps:
  another_name: {{component: count, config: {{journal: {journal}, number: 5}}}}
""")
    result = run_pipeline(alone, settings=settings, say=lambda line: None)["another_name"]
    assert (result.reused, result.step_key) == (True, results["redone__20"].step_key)

    # Another outcome skips other steps.
    again = run_pipeline(spec, settings=settings, params={"most": 20}, say=said.append)
    assert set(again) == ran - {"redone__20"} | {"kept__20", "all_kept", "last"}
    assert (again["counted__20"].reused, again["kept__1"].reused) == (True, True)
    assert again["last"].outputs["table"].version == 21 + 1 + 20


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"numbr": 1}, "did you mean 'number'"),
        ({"number": "many"}, "number: Input should be a valid integer"),
        ({"number": "${nmber}"}, "must name a declared parameter; got 'nmber'"),
    ],
)
def test_a_wrong_configuration_is_refused_before_anything_runs(
    config: dict[str, object], message: str, journal: Path, settings: Settings
) -> None:
    with pytest.raises(ConfigError) as caught:
        run_step(request_of(journal, **config), settings)
    assert message in str(caught.value)
    assert not journal.exists()


def test_a_home_that_cannot_be_written_is_refused(
    journal: Path, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked = tmp_path / "blocked"
    blocked.write_text("a file, not a folder")
    monkeypatch.setenv("MODELMILL_HOME", str(blocked / "home"))
    with pytest.raises(ConfigError, match=r"must be writable .*MODELMILL_HOME"):
        run_step(request_of(journal), Settings.from_environment())
    assert os.environ["MODELMILL_HOME"]


def test_progress_is_said_at_intervals_and_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    say = ProgressPrinter("a", every=3600)
    for done in range(1, 101):
        say(done, 100, what="epochs", loss=0.5)
    assert capsys.readouterr().out == "a: 100% (100 of 100 epochs), loss 0.5, 0:00 left\n"


def test_the_time_left_is_that_of_what_this_attempt_has_done(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = iter([0.0, 10.0, 20.0, 30.0, 40.0])
    monkeypatch.setattr("modelmill.pipeline.progress.time.monotonic", lambda: next(now))
    say = ProgressPrinter("a")
    for done in (200, 220, 240, 0):  # resumed at 200; then the next phase
        say(done, 400, what="training steps")
    assert capsys.readouterr().out.splitlines() == [
        "a:  55% (220 of 400 training steps), 1:30 left",
        "a:  60% (240 of 400 training steps), 1:20 left",
    ]
