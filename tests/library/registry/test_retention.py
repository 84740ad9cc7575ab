"""What nothing needs goes after some days; what a champion, a rollback, a gate or the ledger needs stays."""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from benchmarks.crash_points import CrashPoints, Died, crash_points

from modelmill.artifacts import DatasetRef, ModelRef, TableRef, VerdictRef
from modelmill.cli.old_results import OldResult, mark_all_dead_runs, old_results
from modelmill.component import StepContext
from modelmill.errors import ConfigError, ModelmillError
from modelmill.registry import promotion, retention
from modelmill.registry.bundles import fetch_bundle, log_model
from modelmill.registry.finished_runs import AskedRun, RunPlace, memory_file, remember
from modelmill.registry.ledger import entries
from modelmill.registry.retention import TAG_INPUTS, Policy, inputs_tag, needed
from modelmill.registry.rollback import rollback
from modelmill.registry.signal_models import log_signals
from modelmill.registry.tracking import open_run, tracking_client
from modelmill.registry.versions import register, verified_version
from modelmill.rules.lifecycle.registered_rule_sets import log_rule_set
from modelmill.rules.rule_set import RuleSet
from modelmill.settings import Settings
from modelmill.system.locks import locked

LATER = time.time() + 100 * 86_400
"""When it is looked for what is old: all that the tests make is, by then."""
Make = Callable[[int], ModelRef]


def key(number: int) -> str:
    return f"{number:064x}"


@pytest.fixture
def night(
    make_bundle: Callable[..., Path],
    accepted: Callable[..., VerdictRef],
    next_step: Callable[[str], StepContext],
    topic_dataset: DatasetRef,
) -> Make:
    """Return a function that learns and promotes a model, each in a run of its own."""

    def make(number: int) -> ModelRef:
        parts: dict[str, ModelRef] = {}
        for place, role in enumerate(("teacher", "exported")):
            context = next_step(key(10 * number + place))
            bundle = make_bundle(f"{role}-{number}", tweak=(number + place / 10) / 1000)
            parent = parts.get("teacher")
            parts[role] = log_model(bundle, role=role, dataset=topic_dataset, parent=parent, context=context)
            context.run.finish({"model": parts[role]})
        gate = next_step(key(10 * number + 3))
        report = gate.run.log_json({"passed": True}, "gate/verdict.json")
        told = f"Challenger `{parts['exported'].uri}`, champion `models:/topics/{number - 1}`."
        verdict = accepted(parts["exported"], uri=report, run_id=gate.run.run_id, summary=told)
        gate.run.finish({"verdict": verdict})
        context = next_step(key(10 * number + 2))
        promoted = promotion.promote(verdict, context)
        context.run.finish({"model": promoted})
        return promoted

    return make


@pytest.fixture
def nights(night: Make, step_context: StepContext) -> Settings:
    """Four champions: the gate counts from the first one, a rollback goes to the third."""
    for number in range(1, 5):
        night(number)
    return step_context.settings


def found(settings: Settings) -> list[str]:
    return [one.what for one in by_policy(settings)]


def removed(settings: Settings) -> list[str]:
    return [one.what for one in by_policy(settings) if one.remove()]


def by_policy(settings: Settings) -> Iterator[OldResult]:
    return old_results(settings, tables=(), run_days=30, version_days=30, now=LATER, say=lambda _: None)


def steps_of(settings: Settings) -> dict[str, str]:
    """Return the step key of each run that MLflow has."""
    client = tracking_client(settings.tracking_uri)
    experiment = client.get_experiment_by_name("tests")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    return {run.data.tags["modelmill.step_key"]: run.info.run_id for run in runs}


def stored_files(settings: Settings) -> set[Path]:
    place = settings.home.parent / "artifacts"
    return {path.relative_to(place) for path in place.rglob("*") if path.is_file()}


def check_what_is_needed(settings: Settings) -> None:
    """Load all of it."""
    client = tracking_client(settings.tracking_uri)
    for version in (1, 3, 4):
        model = verified_version(client, "topics", version)
        assert model.parent is not None
        assert client.get_logged_model(model.parent.removeprefix("models:/")).tags
    assert [row.to_version for row in entries(settings)] == [1, 2, 3, 4]


def test_what_nothing_needs_goes_with_its_files_and_all_else_can_be_loaded(nights: Settings) -> None:
    before, listed = stored_files(nights), found(nights)
    assert stored_files(nights) == before  # it was only listed
    assert listed[0] == "models:/topics/2"
    # Of the second night all runs; of each promotion its run, since the ledger's rows are old.
    gone = {key(number) for number in (12, 20, 21, 22, 23, 32, 42)}
    runs = steps_of(nights)
    assert {what.split()[1] for what in listed[1:]} == {runs[one] for one in gone}
    assert removed(nights) == listed
    assert runs.keys() - steps_of(nights).keys() == gone
    assert len(stored_files(nights)) < len(before)
    check_what_is_needed(nights)
    assert found(nights) == []
    assert rollback("topics", nights, why="it answers worse", say=lambda _: None).to_version == 3
    rows = sqlite3.connect(nights.tracking_uri.removeprefix("sqlite:///"))
    assert rows.execute("select count(*) from runs where lifecycle_stage = 'deleted'").fetchall() == [(0,)]
    assert rows.execute("select count(*) from logged_models").fetchall() == [(6,)]
    rows.close()


def test_without_days_for_versions_every_version_and_what_the_ledger_names_stays(nights: Settings) -> None:
    said: list[str] = []
    assert not list(old_results(nights, tables=(), run_days=30, now=LATER, say=said.append))
    assert any("the ledger names it" in line for line in said)
    assert sum(int(line.split()[1]) for line in said) == len(steps_of(nights))


def test_the_number_of_a_version_that_is_gone_is_not_given_again(nights: Settings, night: Make) -> None:
    removed(nights)
    assert night(5).uri == "models:/topics/5"
    assert rollback("topics", nights, why="worse", say=lambda _: None).to_version == 4


def test_what_was_reused_lately_runs_or_is_named_stays(
    nights: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    runs = steps_of(nights)
    monkeypatch.setenv("MODELMILL_PIPELINES", str(tmp_path / "pipelines"))
    (tmp_path / "pipelines").mkdir()
    (tmp_path / "pipelines" / "daily.yaml").write_text("model: models:/topics/2\n")
    assert {what.split()[1] for what in found(nights)} == {runs[key(one)] for one in (12, 22, 32, 42)}
    asked = AskedRun(nights.tracking_uri, "tests", key(32))
    remember(nights.home, asked, RunPlace("1", runs[key(32)]))
    for file in (nights.home / "results").rglob("*"):
        os.utime(file, (LATER, LATER))
    client = tracking_client(nights.tracking_uri)
    client.update_run(runs[key(42)], status="RUNNING")
    with locked(nights.home / "steps" / key(22) / "lock"):
        assert {what.split()[1] for what in found(nights)} == {runs[key(12)], runs[key(22)]}
        assert [what.split()[1] for what in removed(nights)] == [runs[key(12)]]
    assert [what.split()[1] for what in removed(nights)] == [runs[key(22)]]
    assert not (nights.home / "steps" / key(22)).exists()


def test_a_version_whose_name_is_filled_in_stays(
    nights: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def goes() -> bool:
        return "models:/topics/2" in found(nights)

    assert goes()
    for named, stays in (
        *(("models:/topics/2", True), ("models:/${name}/2", True), ("models:/top${rest}/2", True)),
        *(
            ("models:/topics/${version}", True),
            ("models:/${a}${b}/${c.d}", True),
            ("models:/${a}/2${b}", True),
        ),
        *(("models:/desks/2", False), ("models:/x${a}/2", False), ("models:/${a}/3${b}", False)),
        *(("models:/${a/2", False), ("models:/${a}s${b}s${c}/2", False)),
        ("models:/" + "${a}.*" * 30 + "/2", False),
    ):
        monkeypatch.setenv("MODELMILL_PARAM_MODEL", named)
        assert goes() != stays, named
    monkeypatch.delenv("MODELMILL_PARAM_MODEL")
    monkeypatch.setenv("MODELMILL_PIPELINES", str(tmp_path / "pipelines"))
    with pytest.raises(ConfigError, match="MODELMILL_PIPELINES names must be there"):
        goes()
    (tmp_path / "pipelines").mkdir()
    assert goes()
    (tmp_path / "pipelines" / "daily.yaml").write_text("model: models:/${name}/2\n")
    assert not goes()


def test_what_is_come_for_after_it_was_listed_stays(nights: Settings) -> None:
    listed = list(old_results(nights, tables=(), run_days=30, version_days=30, now=LATER, say=lambda _: None))
    runs, client = steps_of(nights), tracking_client(nights.tracking_uri)
    client.set_registered_model_alias("topics", "challenger", "2")
    client.update_run(runs[key(20)], status="RUNNING")
    remember(nights.home, AskedRun(nights.tracking_uri, "tests", key(21)), RunPlace("1", runs[key(21)]))
    for file in (nights.home / "results").rglob("*"):
        os.utime(file, (LATER, LATER))
    stayed = [one.what for one in listed if not one.remove()]
    assert stayed[0] == "models:/topics/2"
    assert {what.split()[1] for what in stayed[1:]} == {runs[key(20)], runs[key(21)]}


@pytest.fixture
def points() -> Iterator[CrashPoints]:
    with crash_points() as found:
        yield found


def test_a_removal_that_is_killed_anywhere_goes_on_next_time(
    nights: Settings, points: CrashPoints, tmp_path: Path
) -> None:
    whole = tmp_path / "whole"
    shutil.copytree(tmp_path, whole, ignore=shutil.ignore_patterns("whole"))
    database = Path(nights.tracking_uri.removeprefix("sqlite:///"))
    with points.life():
        removed(nights)
    effects, after = points.count, stored_files(nights)
    places = set()
    for position in range(0, effects, max(effects // 8, 1)):
        for name in ("artifacts", "home"):
            shutil.rmtree(tmp_path / name)
            shutil.copytree(whole / name, tmp_path / name)
        with sqlite3.connect(whole / database.name) as source, sqlite3.connect(database) as target:
            source.backup(target)
        with pytest.raises(Died), points.life(position):
            removed(nights)
        places.add(points.place)
        check_what_is_needed(nights)
        removed(nights)
        assert (stored_files(nights), found(nights)) == (after, [])
        check_what_is_needed(nights)
    assert len(places) > 3


def test_runs_of_dead_processes_are_marked_and_go_later(
    settings: Settings, step_context: StepContext
) -> None:
    folder = settings.home / "steps" / key(7)
    folder.mkdir(parents=True)
    client, experiment = step_context.run.client, step_context.run.experiment_id
    run = open_run(client, experiment, key(7), name="dead", tags={}, folder=folder)
    (folder / "lock").touch()
    assert [what.split()[1] for what in found(settings)] == []
    assert mark_all_dead_runs(settings) == [run.run_id]
    assert [what.split()[1] for what in found(settings)] == [run.run_id]


def test_what_was_refused_goes_too(settings: Settings, step_context: StepContext) -> None:
    step_context.run.discard(ModelmillError("no"))
    assert found(settings) == removed(settings) != []
    assert found(settings) == []


def test_a_version_that_a_rule_set_in_use_names_stays(
    nights: Settings, next_step: Callable[[str], StepContext]
) -> None:
    signal = {"kind": "model", "column": "text", "model": "models:/topics/2", "label": "sport"}
    content = {
        "rule_set": "desks",
        "key": "id",
        "signals": {"sport": signal},
        "rules": [{"name": "sport", "when": "sport > 0.5", "then": "sport"}],
        "default": "trade",
    }
    context = next_step(key(99))
    assert "models:/topics/2" in found(nights)
    model = log_rule_set(RuleSet.model_validate(content), TableRef(uri="/nowhere", version=0), context)
    context.run.finish({"model": model})
    version = register(context.run.client, "desks", model)
    context.run.client.set_registered_model_alias("desks", "champion", str(version.version))
    assert "models:/topics/2" not in removed(nights)
    assert verified_version(context.run.client, "topics", 2)


def test_a_head_that_last_nights_signals_list_stays_whichever_run_has_learnt_it(
    nights: Settings, next_step: Callable[[str], StepContext], make_bundle: Callable[..., Path]
) -> None:
    learnt = next_step(key(90))
    model = log_model(make_bundle("sport"), role="head", context=learnt)
    learnt.run.finish({"signals": log_signals({"sport": model}, learnt)})
    register(learnt.run.client, "sport", model)
    tonight = next_step(key(91))
    tonight.run.finish({"signals": log_signals({"sport": model}, tonight)})
    asked = AskedRun(nights.tracking_uri, "tests", key(91))
    remember(nights.home, asked, RunPlace(tonight.run.experiment_id, tonight.run.run_id))
    os.utime(memory_file(nights.home, asked), (LATER, LATER))
    removed(nights)
    assert tonight.run.client.get_logged_model(model.uri.removeprefix("models:/")).status == "READY"
    assert key(90) in steps_of(nights)


@pytest.mark.parametrize("status", ["RUNNING", "SCHEDULED", "FINISHED"])
def test_what_a_step_reads_stays_while_it_runs_or_waits(
    next_step: Callable[[str], StepContext],
    make_bundle: Callable[..., Path],
    accepted: Callable[..., VerdictRef],
    topic_dataset: DatasetRef,
    tmp_path: Path,
    status: str,
) -> None:
    made = next_step(key(1))
    parts = {"dataset": topic_dataset, "context": made}
    teacher = log_model(make_bundle("teacher", tweak=0.001), role="teacher", **parts)
    model = log_model(make_bundle("student", tweak=0.002), role="exported", parent=teacher, **parts)
    made.run.finish({"model": model})
    gate = next_step(key(2))
    verdict = accepted(model, uri=gate.run.log_json({}, "gate/verdict.json"), run_id=gate.run.run_id)
    gate.run.finish({"verdict": verdict})
    # Somebody is to approve, and lets it wait for longer than runs are kept.
    waits, table = next_step(key(3)), TableRef(uri=str(tmp_path / "t"), version=3)
    waits.run.set_tags({TAG_INPUTS: inputs_tag([verdict, table, topic_dataset])})
    waits.run.client.set_terminated(waits.run.run_id, status=status)
    stays = status != "FINISHED"
    gone = set(removed(waits.settings))
    needs = needed(waits.run.client, waits.settings, Policy(30, now=LATER))
    assert (key(1) in steps_of(waits.settings)) == (key(2) in steps_of(waits.settings)) == stays
    assert needs.pinned(table.uri) == ({3} if stays else set())
    assert bool(gone) != stays
    if stays:
        place = fetch_bundle(model, tmp_path / "fresh")
        os.utime(place, (1, 1))
        assert fetch_bundle(model, tmp_path / "fresh") == place
        assert place.stat().st_mtime > 1  # used today, for modelmill gc


def test_what_a_run_says_that_it_reads_may_be_cut(topic_dataset: DatasetRef) -> None:
    whole = inputs_tag([topic_dataset])
    assert whole == f"\n{topic_dataset}"
    assert inputs_tag([]) == ""
    for end in range(len(whole)):
        _, tables = retention._inputs_of(whole[:end])
        assert not tables
