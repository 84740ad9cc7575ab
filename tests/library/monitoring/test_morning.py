"""What a night is told to have been, from real runs and a real ledger."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from typer.testing import CliRunner

from modelmill.artifacts import AnyReference, ModelRef, ReportRef
from modelmill.cli.main import app
from modelmill.errors import ConfigError, DatasetError, WaitingError
from modelmill.monitoring.morning import TAG_LOGICAL_DATE, TAG_MAP_INDEX, Morning, morning, night_of
from modelmill.monitoring.morning_page import as_html, as_text
from modelmill.registry.dead_runs import mark_dead_runs
from modelmill.registry.ledger import Entry, append
from modelmill.registry.tracking import (
    ATTEMPTS,
    TAG_OPENED_BY,
    TrackedRun,
    experiment_id,
    open_run,
    tracking_client,
)
from modelmill.settings import Settings


@dataclass
class Night:
    """Makes runs of steps as the runner does."""

    settings: Settings
    number: int = 0

    def step(self, step: str, component: str, pipeline: str = "desks", *, date: str = "") -> TrackedRun:
        client = tracking_client(self.settings.tracking_uri)
        experiment = experiment_id(client, pipeline, artifact_root=self.settings.home / "artifacts")
        self.number += 1
        tags = {
            "modelmill.pipeline": pipeline,
            "modelmill.step": step,
            "modelmill.component": component,
        }
        if date:
            tags[TAG_LOGICAL_DATE] = f"2026-01-{date}T02:00:00+00:00"
        return open_run(client, experiment, f"{self.number:064x}", name=step, tags=tags)

    def days_ago(self, step: str, days: int, *, status: str | None) -> TrackedRun:
        """Make a run that began days ago, and ended with a status a second later; None: it has not ended."""
        client = tracking_client(self.settings.tracking_uri)
        then = int(time.time() * 1000) - days * 86_400_000
        tags = {"modelmill.pipeline": "desks", "modelmill.step": step, "modelmill.component": "distill"}
        experiment = experiment_id(client, "desks", artifact_root=self.settings.home / "artifacts")
        self.number += 1
        run = client.create_run(
            experiment, start_time=then, tags={**tags, "modelmill.step_key": f"{self.number:064x}"}
        )
        if status is not None:
            client.set_terminated(run.info.run_id, status=status, end_time=then + 1000)
        return TrackedRun(client, run, fresh=False)

    def again(self, run: TrackedRun) -> TrackedRun:
        """Make the next attempt at a run that has failed, or has died."""
        found = run.client.get_run(run.run_id).data.tags
        tags = {name: value for name, value in found.items() if name.startswith("modelmill.")}
        return open_run(run.client, run.experiment_id, tags["modelmill.step_key"], name="again", tags=tags)

    def done(self, run: TrackedRun, metrics: dict[str, float], **outputs: AnyReference) -> None:
        run.log_metrics(metrics)
        run.finish(outputs)

    def told(self) -> Morning:
        return morning(self.settings, since=datetime.now(UTC) - timedelta(hours=1))


def model_of(run: TrackedRun) -> ModelRef:
    return ModelRef(uri="models:/m-1", run_id=run.run_id, digest="d", format="onnx", role="student")


def entry(action: str, key: str, reasons: tuple[str, ...] = ()) -> Entry:
    return Entry.model_validate(
        {
            "action": action,
            "model": "desks",
            "from_version": None,
            "to_version": 1 if action == "promote" else None,
            "digest": "d",
            "reasons": reasons,
            "step_key": key,
            "pipeline": "desks",
        }
    )


@pytest.fixture
def night(settings: Settings) -> Night:
    """A night with a training, a promotion, a refusal, a drift alarm and three failures."""
    night = Night(settings)
    trained = night.step("student", "distill")
    metrics = {"validation_accuracy": 0.91, "used/cpu_seconds": 90.0, "used/memory_mb": 512.0, "loss": 1.0}
    night.done(trained, metrics, model=model_of(trained))
    handed_on = night.step("champion", "use_champion")
    night.done(handed_on, {}, model=model_of(trained))
    watched = night.step("watch", "monitor")
    report = ReportRef(uri="runs:/r/m.json", run_id=watched.run_id, alarms=("score: PSI 0.4 > 0.2",))
    night.done(watched, {}, report=report)
    night.step("broken", "evaluate").fail(RuntimeError("<b>no disk</b>"))
    night.step("wrong", "build_dataset", "other").discard(DatasetError("a label must be there"))
    night.step("killed", "prune", "other").fail(KeyboardInterrupt(), status="KILLED")
    again = night.step("again", "gate", "other")
    again.fail(RuntimeError("once"))
    night.done(again, {})
    append(settings, "desks", lambda head: entry("promote", "a" * 64), step_key="a" * 64, moves_alias=False)
    refusal = entry("refuse", "b" * 64, ("accuracy 0.80 < 0.91",))
    append(settings, "desks", lambda head: refusal, step_key="b" * 64, moves_alias=False)
    return night


def test_a_night_with_everything(night: Night) -> None:
    told = night.told()
    assert told.headline == "1 trained, 1 promoted, 1 refused, 1 drift alarms, 3 failed"
    assert [(one.step, one.figures) for one in told.trained] == [("student", {"validation_accuracy": 0.91})]
    assert [(one.what, one.to_version) for one in told.promoted] == [("promoted", 1)]
    assert [one.reasons for one in told.refused] == [("accuracy 0.80 < 0.91",)]
    assert [one.alarms for one in told.alarms] == [("score: PSI 0.4 > 0.2",)]
    failed = {one.step: (one.how, one.error) for one in told.failed}
    assert failed == {
        "broken": ("failed", "RuntimeError: <b>no disk</b>"),
        "wrong": ("refused", "DatasetError: a label must be there"),
        "killed": ("killed", "KeyboardInterrupt: "),
    }
    desks, other = told.costs
    assert (desks.pipeline, desks.steps, desks.cpu_minutes, desks.most_memory_mb) == ("desks", 4, 1.5, 512)
    assert (other.steps, other.cpu_minutes) == (3, None)
    assert told.unknown == ()


def test_the_page_says_all_of_it_and_escapes_what_steps_say(night: Night) -> None:
    told = night.told()
    text, page = as_text(told), as_html(told)
    for said in ("student", "accuracy 0.80 &lt; 0.91", "score: PSI 0.4 &gt; 0.2", "version 1"):
        assert said in page
    assert "&lt;b&gt;no disk&lt;/b&gt;" in page
    assert "<b>" not in page
    assert "<script" not in page
    assert "what: failed: RuntimeError: <b>no disk</b>; what to do: look at the task's log" in text
    assert text.splitlines()[0].endswith("UTC: 1 trained, 1 promoted, 1 refused, 1 drift alarms, 3 failed")


def test_a_step_that_goes_on_after_a_failure_is_one_step_that_runs(settings: Settings) -> None:
    night = Night(settings)
    night.step("student", "distill").fail(RuntimeError("once"))
    night.number -= 1
    night.step("student", "distill")  # the next attempt opens the same run
    told = night.told()
    assert [(one.step, one.how) for one in told.failed] == [("student", "running")]
    assert told.headline == "1 still running"
    assert [one.steps for one in told.costs] == [1]


def test_what_a_step_says_stays_in_its_line(settings: Settings) -> None:
    night = Night(settings)
    night.step("student", "distill").fail(RuntimeError("a\n\nPromoted:\n  desks: \x1b[2Jversion 9\r\u2028b"))
    text = as_text(night.told())
    assert text.count("\nPromoted:") == 1
    assert "\x1b" not in text
    assert "a Promoted: desks: \N{REPLACEMENT CHARACTER}[2Jversion 9 b; what to do" in text


def test_a_night_costs_what_its_own_attempts_took(settings: Settings) -> None:
    night = Night(settings)
    night.again(night.days_ago("fails each night", 3, status="FAILED")).fail(RuntimeError("again"))
    died = night.days_ago("died", 2, status=None)
    died.client.set_tag(died.run_id, TAG_OPENED_BY, "attempt")
    folder = settings.home / "steps" / f"{night.number:064x}"
    folder.mkdir(parents=True)
    (folder / "lock").touch()
    (folder / ATTEMPTS).write_text("attempt\n")
    assert mark_dead_runs(died.client, died.experiment_id, settings.home / "steps") == [died.run_id]
    told = night.told()
    assert {(one.step, one.how) for one in told.failed} == {
        ("fails each night", "failed"),
        ("died", "killed"),
    }
    assert [one.steps for one in told.costs] == [2]
    assert told.costs[0].minutes < 1


def test_a_step_that_hangs_is_told_whenever_it_began(settings: Settings) -> None:
    night = Night(settings)
    night.days_ago("for days", 3, status=None)
    night.again(night.days_ago("again", 3, status="FAILED"))
    told = night.told()
    assert {(one.step, one.how) for one in told.failed} == {("for days", "running"), ("again", "running")}
    assert [one.steps for one in told.costs] == [1]


def test_a_copy_of_a_mapped_task_does_not_make_another_one_good(settings: Settings) -> None:
    night = Night(settings)
    for index in range(3):
        run = night.step("each", "distill", date="30")
        run.set_tags({TAG_MAP_INDEX: str(index)})
        if index == 1:
            run.fail(RuntimeError("no rows"))
        else:
            night.done(run, {})
    told = night.told()
    assert [(one.step, one.error) for one in told.failed] == [("each[1]", "RuntimeError: no rows")]


def test_a_step_that_has_handed_work_to_others_waits(settings: Settings) -> None:
    night = Night(settings)
    night.step("labelled", "label_by_llm").fail(
        WaitingError(
            "waits for a batch",
            got="batch_1 in_progress",
            path="batches/batch_1",
            until=["completed"],
            seconds=9,
        ),
        status="SCHEDULED",
    )
    told = night.told()
    assert [(one.step, one.how) for one in told.failed] == [("labelled", "waiting")]
    assert told.headline == "1 waiting"
    assert "it goes on by itself" in as_text(told)


def test_neither_a_backfill_nor_a_run_that_goes_on_hides_the_nights_result(settings: Settings) -> None:
    night = Night(settings)
    night.step("student", "distill", date="30").fail(RuntimeError("last night's"))
    night.done(night.step("student", "distill", date="12"), {})  # a backfill goes well
    night.step("gate", "gate", date="30").fail(RuntimeError("the gate's"))
    night.step("gate", "gate", date="31")  # somebody has started it again
    night.step("made_good", "prune", date="30").fail(RuntimeError("once"))
    night.done(night.step("made_good", "prune", date="31"), {})
    night.done(night.step("old", "prune", date="30"), {})
    night.step("old", "prune", date="12").fail(RuntimeError("a backfill's"))
    told = night.told()
    found = {(one.step, one.how, one.logical_date and one.logical_date.day, one.error) for one in told.failed}
    assert found == {
        ("student", "failed", 30, "RuntimeError: last night's"),
        ("gate", "failed", 30, "RuntimeError: the gate's"),
        ("gate", "running", 31, ""),
        ("old", "failed", 12, "RuntimeError: a backfill's"),
    }
    assert told.headline == "3 failed, 1 still running"
    assert "desks.old for 2026-01-12 02:00" in as_text(told)


def test_times_are_shown_in_utc_whatever_the_zone() -> None:
    since = datetime(2026, 1, 31, 4, tzinfo=timezone(timedelta(hours=8)))
    lists = ("trained", "promoted", "refused", "alarms", "failed", "costs", "unknown")
    until = since + timedelta(hours=8)
    night = Morning.model_validate({"since": since, "until": until, **dict.fromkeys(lists, ())})
    assert "2026-01-30 20:00 to 2026-01-31 04:00 UTC: nothing has changed" in as_text(night)


def test_an_empty_night_and_one_that_cannot_be_read(settings: Settings) -> None:
    now = datetime.now(UTC)
    assert morning(settings, since=now - timedelta(hours=1)).headline == "nothing has changed"
    night = Night(settings)
    night.done(night.step("rows", "delta_table"), {"used/seconds": 60.0})
    told = night.told()
    assert told.headline == "1 steps ran, and made no model"
    assert told.costs[0].minutes == 1
    tracking_client(settings.tracking_uri).delete_experiment(
        experiment_id(tracking_client(settings.tracking_uri), "desks")
    )
    Path(settings.ledger).mkdir(parents=True)
    (Path(settings.ledger) / "_delta_log").mkdir()
    (Path(settings.ledger) / "_delta_log" / f"{0:020d}.json").write_text("{broken")
    told = morning(settings, since=now - timedelta(hours=1))
    assert told.headline == "unknown"
    assert told.unknown[0].startswith("the ledger: ")
    assert "NOT KNOWN: the ledger: " in as_text(told)


def test_the_command_writes_the_page(night: Night, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["morning", "--html", str(tmp_path / "m.html")])
    assert result.exit_code == 0, result.output
    assert "1 trained, 1 promoted" in result.output
    assert "<h2>Refused</h2>" in (tmp_path / "m.html").read_text()
    told = CliRunner().invoke(app, ["morning", f"{datetime.now(UTC):%Y-%m-%d}", "--json"])
    assert Morning.model_validate_json(told.output).trained == night.told().trained


@pytest.mark.parametrize("day", ["yesterday", "2026-13-01", "2999-01-01"])
def test_a_day_that_is_none(day: str) -> None:
    with pytest.raises(ConfigError, match=f"got '{day}'"):
        night_of(day, hours=1)


def test_a_night_needs_zones_and_a_later_end(settings: Settings) -> None:
    with pytest.raises(ConfigError, match="both with a zone"):
        morning(settings, since=datetime(2026, 1, 1))
    with pytest.raises(ConfigError, match="a later end"):
        morning(settings, since=datetime.now(UTC) + timedelta(hours=1))
