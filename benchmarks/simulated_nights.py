"""Whole nights in one process, with deaths from a seed: what runs a step, keeps tables and moves champions.

``./run python -m benchmarks.simulated_nights --seeds 100`` plays, for each seed, some nights of a pipeline
(a table that grows, rows that are kept, a model that learns from them, a verdict, a promotion) between
people who roll back, move the alias by hand and look with the guard. Each of them may die at any of its
external effects (:mod:`benchmarks.crash_points`) and is tried again, as Airflow does, or never again. The
runner, the tables, MLflow (SQLite), the registry and the ledger are the real ones; learning and judging cost
nothing here, and the clock is virtual. What is known to be right is kept beside them in a few lines:
:class:`Expected`. ``--first 17 --seeds 1`` plays a seed again; ``--processes 2`` uses two cores.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import multiprocessing
import os
import random
import sqlite3
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pyarrow as pa
from benchmarks.crash_points import CrashPoints, Died, crash_points
from deltalake import DeltaTable, write_deltalake

from modelmill.artifacts import DatasetRef, ModelRef, TableRef, VerdictRef
from modelmill.component import Component, Config, Inputs, StepContext
from modelmill.errors import GateError, ModelmillError
from modelmill.models.bundle import BundleInfo
from modelmill.pipeline import catalogue
from modelmill.pipeline.request import StepRequest, StepResult
from modelmill.pipeline.runner import run_step
from modelmill.registry import champion, guard, ledger
from modelmill.registry.bundles import log_model
from modelmill.registry.promotion import champion_version
from modelmill.registry.rollback import rollback
from modelmill.registry.tracking import make_tracking_database, tracking_client
from modelmill.registry.versions import CHAMPION, verified_version
from modelmill.settings import Settings
from modelmill.steps.ports import GateOutputs, ModelOutputs, TableOutputs
from modelmill.tables.commits import write_rows

MODEL = "topics"
_PIECE = 100
"""Seeds that a process plays."""
_DEATHS = 4
"""Deaths of one step in a night, at most."""


class KeepConfig(Config):
    """Append all rows of the source to a table: once for each of its versions."""

    uri: str


class KeepInputs(Inputs):
    """The source."""

    table: TableRef


def _keep(config: KeepConfig, inputs: KeepInputs, context: StepContext) -> TableOutputs:
    rows = DeltaTable(inputs.table.uri, version=inputs.table.version).to_pyarrow_table()
    version = write_rows(config.uri, rows, mode="append", transaction=context.step_key)
    return TableOutputs(table=TableRef(uri=config.uri, version=version))


class LearnConfig(Config):
    """Make a model of as many bytes as there are rows."""


def _learn(_config: LearnConfig, inputs: KeepInputs, context: StepContext) -> ModelOutputs:
    table = inputs.table
    folder = context.workdir / "bundle"
    folder.mkdir(exist_ok=True)
    (folder / "model.onnx").write_bytes(str(table.version).encode())
    (folder / "tokenizer.json").write_text("{}")
    info = BundleInfo(
        format="onnx",
        label="topic",
        classes=("a", "b"),
        target="class",
        text="body",
        max_tokens=8,
        parameters=1,
    )
    info.save(folder)
    dataset = DatasetRef(
        uri=table.uri, version=table.version, key="id", text="body", labels=("topic",), split="split"
    )
    return ModelOutputs(model=log_model(folder, role="exported", dataset=dataset, context=context))


class JudgeConfig(Config):
    """Accept all but each third model."""


class JudgeInputs(Inputs):
    """The model."""

    model: ModelRef


def _judge(_config: JudgeConfig, inputs: JudgeInputs, context: StepContext) -> GateOutputs:
    bad = int(inputs.model.digest, 16) % 3 == 0
    verdict = VerdictRef(
        passed=not bad,
        name=MODEL,
        challenger=inputs.model,
        champion_version=champion_version(MODEL, context.settings),
        reasons=("worse",) if bad else (),
        uri=context.run.log_json({"passed": not bad}, "gate/verdict.json"),
        run_id=context.run.run_id,
    )
    return GateOutputs(verdict=verdict)


_COMPONENTS = {
    "keep": Component(
        name="keep",
        title="Keep",
        group="Data",
        config=KeepConfig,
        inputs=KeepInputs,
        outputs=TableOutputs,
        run=_keep,
    ),
    "learn": Component(
        name="learn",
        title="Learn",
        group="Train",
        config=LearnConfig,
        inputs=KeepInputs,
        outputs=ModelOutputs,
        run=_learn,
    ),
    "judge": Component(
        name="judge",
        title="Judge",
        group="Check",
        config=JudgeConfig,
        inputs=JudgeInputs,
        outputs=GateOutputs,
        run=_judge,
        outside_state=lambda _config, _inputs, settings: f"champion={champion_version(MODEL, settings)}",
    ),
}


class Clock:
    """The time of a simulation, in seconds: nobody waits for it."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def monotonic(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds

    def now(self, zone: Any = UTC) -> datetime:
        return datetime(2026, 1, 1, tzinfo=zone) + timedelta(seconds=self.seconds)


@dataclass
class Expected:
    """What has to be so, kept without tables, processes or deaths."""

    source: list[str] = field(default_factory=list)
    rows: Counter[str] = field(default_factory=Counter)
    champions: set[int | None] = field(default_factory=lambda: {None})
    """Versions that may be champion: more than one only while a move was left half-done."""


class ViolationError(AssertionError):
    """Something that must never be."""


class World:
    """A deployment, its people, and what is expected of it.

    :param folder: an empty folder.
    :param seed: decides everything.
    :param points: where processes die.
    :param clock: the time of all its machines.
    """

    def __init__(self, folder: Path, seed: int, points: CrashPoints, clock: Clock) -> None:
        self.random, self.points, self.clock = random.Random(seed), points, clock
        self.settings = Settings.from_environment()
        self.source, self.kept = folder / "source", folder / "kept"
        self.expected = Expected()
        self.deaths: Counter[str] = Counter()
        self.log: list[str] = []
        self.client = tracking_client(self.settings.tracking_uri)
        self._made = 0

    def play(self, nights: int) -> None:
        """Play some nights, and check after each."""
        for night in range(nights):
            self.say(f"night {night}")
            self._grow()
            self._person()
            self._pipeline()
            self._person()
            self._morning()

    def say(self, line: str) -> None:
        self.log.append(f"{self.clock.seconds:8.1f}  {line}")

    def _process(self, what: str, work: Callable[[], Any], *, chance: float) -> Any:
        """Let a process do its work; it may die. :raises Died: if it does."""
        # Files are opened much more often than anything is committed.
        most, kinds = self.random.choice(((60, ("",)), (30, ("mlflow", "delta")), (3, ("delta",))))
        at = self.random.randrange(most) if self.random.random() < chance else None
        # Most of the waits of a machine are short, some longer than a turn of the registry.
        self.clock.sleep(self.random.choice((0.1, 1.0, 70.0)))
        try:
            with self.points.life(at, kinds=kinds), contextlib.redirect_stdout(io.StringIO()):
                return work()
        except Died:
            self.deaths[self.points.place] += 1
            self.say(f"{what} dies {self.points.place} (position {at})")
            raise

    def _grow(self) -> None:
        if self.expected.rows and self.random.random() < 0.3:
            return  # a night in which nothing is new
        names = [f"row-{self._made + number}" for number in range(self.random.randint(1, 5))]
        self._made += len(names)
        self.expected.source.extend(names)
        table = pa.table(
            {"id": names, "body": names, "topic": ["a"] * len(names), "split": ["train"] * len(names)}
        )
        write_deltalake(str(self.source), table, mode="append")
        self.expected.rows.update(self.expected.source)

    def _pipeline(self) -> None:
        for _ in range(6):
            try:
                return self._run_once()
            except GateError as error:  # Airflow runs the gate and what follows again
                self.say(f"refused: {error}")
                if "no champion" in str(error) or "first champion" in str(error):
                    return None
        raise ViolationError("six runs, and none came through")

    def _run_once(self) -> None:
        outputs: dict[str, Any] = {}
        steps: tuple[tuple[str, str, dict[str, Any], dict[str, str], str], ...] = (
            ("source", "delta_table", {"uri": str(self.source)}, {}, "table"),
            ("keep", "keep", {"uri": str(self.kept)}, {"table": "source"}, "table"),
            ("learn", "learn", {}, {"table": "keep"}, "model"),
            ("judge", "judge", {}, {"model": "learn"}, "verdict"),
            ("promote", "promote", {}, {"verdict": "judge"}, "model"),
        )
        for name, component, config, edges, port in steps:
            inputs = {key: outputs[step] for key, step in edges.items()}
            request = StepRequest(
                pipeline="nights", step=name, component=component, config=config, inputs=inputs
            )
            outputs[name] = self._step(request).outputs[port]
            if name == "judge" and self.random.random() < 0.3:
                self._person()
        verdict, model = outputs["judge"], outputs["promote"]
        if verdict.passed:
            self.expected.champions = {int(model.uri.rsplit("/", 1)[1])}

    def _step(self, request: StepRequest) -> StepResult:
        for attempt in range(_DEATHS + 1):
            before = set(self.expected.champions)
            try:
                chance = 0.5 if attempt < _DEATHS else 0.0
                result: StepResult = self._process(
                    request.step, lambda: run_step(request, self.settings), chance=chance
                )
                return result
            except Died:
                if request.component == "promote":  # it may have moved the champion; the next attempt tells
                    self.expected.champions = before | {self._ledger_champion()}
        raise AssertionError("the last attempt never dies")

    def _person(self) -> None:
        act = self.random.choice((self._roll_back, self._move_by_hand, self._look, None, None))
        if act is not None:
            with contextlib.suppress(Died):
                act()

    def _roll_back(self) -> None:
        def work() -> None:
            with contextlib.suppress(GateError):
                row = rollback(MODEL, self.settings, why="a person wants it", say=_quiet)
                self.expected.champions = {row.to_version}
                self.say(f"rolled back to {row.to_version}")

        try:
            self._process("rollback", work, chance=0.5)
        except Died:
            self.expected.champions |= {self._ledger_champion()}
            raise

    def _move_by_hand(self) -> None:
        with contextlib.suppress(Exception):
            versions = [int(one.version) for one in self.client.search_model_versions(f"name = '{MODEL}'")]
            if versions and ledger.head(self.settings, MODEL).settled:
                version = self.random.choice(versions)
                self.client.set_registered_model_alias(MODEL, CHAMPION, str(version))
                self.expected.champions = {version}
                self.say(f"moved by hand to {version}")

    def _look(self) -> None:
        registry = champion.Registry(self.client, self.settings, _quiet)
        revert = self.random.random() < 0.5

        def work() -> None:
            guard.inspect(registry, on_hand_move="revert" if revert else "report", verify_files=False)

        try:
            self._process("guard", work, chance=0.4)
        finally:
            if revert:  # it goes back to the last champion that came through the gate
                self.expected.champions |= {self._ledger_champion()}

    def _ledger_champion(self) -> int | None:
        return ledger.head(self.settings, MODEL).champion

    def _morning(self) -> None:
        """Look with the guard, which lives, and compare everything with what is expected."""
        self.clock.sleep(100.0)
        registry = champion.Registry(self.client, self.settings, _quiet)
        guard.inspect(registry, (MODEL,), verify_files=False)
        head = ledger.head(self.settings, MODEL)
        alias = champion.alias_version(registry, MODEL)
        _same("the alias and the ledger", alias, head.champion)
        _same("every row of the ledger is settled", head.settled or head.last is None, True)
        if head.champion not in self.expected.champions:
            raise ViolationError(
                f"the champion is {head.champion}, expected one of {self.expected.champions}"
            )
        self.expected.champions = {head.champion}
        self._check_ledger()
        self._check_runs()
        rows = Counter(DeltaTable(str(self.kept)).to_pyarrow_table()["id"].to_pylist())
        _same("the rows that were kept", rows, self.expected.rows)
        if head.champion is not None:
            verified_version(self.client, MODEL, head.champion)

    def _check_ledger(self) -> None:
        rows = ledger.entries(self.settings, model=MODEL)
        for earlier, later in itertools.pairwise(rows):
            _same("each row follows from the one before", later.from_version, earlier.to_version)
        repeated = [key for key, count in Counter(row.step_key for row in rows).items() if count > 1]
        _same("rows of one step", repeated, [])

    def _check_runs(self) -> None:
        experiment = self.client.get_experiment_by_name("nights")
        runs = self.client.search_runs([experiment.experiment_id], max_results=1000) if experiment else []
        done = Counter(run.data.tags["modelmill.step_key"] for run in runs if run.info.status == "FINISHED")
        left = [run.info.status for run in runs if run.info.status == "RUNNING"]
        # A step that is refused ends its run; one that is never tried again is marked by the next one.
        _same("runs left RUNNING", left, [])
        for model in self.client.search_logged_models([experiment.experiment_id]) if experiment else []:
            _same("the state of a logged model of a finished run", str(model.status.value), "READY")
        self._check_made_again(runs, done)

    def _check_made_again(self, runs: list[Any], done: Counter[str]) -> None:
        """Check that only a promotion whose champion was moved meanwhile has finished twice."""
        twice = {key for key, count in done.items() if count > 1}
        names = {
            run.data.tags["modelmill.step"] for run in runs if run.data.tags["modelmill.step_key"] in twice
        }
        _same("steps that have finished twice", names - {"promote"}, set())


def _quiet(_line: str) -> None:
    pass


def _same(what: str, found: Any, wanted: Any) -> None:
    if found != wanted:
        raise ViolationError(f"{what}: {found!r}, expected {wanted!r}")


def _database(template: Path) -> Path:
    """Return this process's database, as it was when it was made.

    It is the same file for each seed: MLflow keeps an engine for each file that it has seen, with all that it
    has compiled.
    """
    database = template.with_name(f"played-{os.getpid()}.db")
    with (
        contextlib.closing(sqlite3.connect(template)) as made,
        contextlib.closing(sqlite3.connect(database)) as played,
    ):
        made.backup(played)
    return database


@contextlib.contextmanager
def deployment(template: Path, points: CrashPoints, seed: int) -> Iterator[World]:
    """Make a deployment in a new folder, with a clock of its own.

    :param template: an MLflow database with its tables made.
    :param points: where processes die.
    :param seed: decides everything.
    :yield: its world.
    """
    clock = Clock()
    now = SimpleNamespace(now=clock.now)
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        given = {
            "MODELMILL_HOME": f"{folder}/home",
            "MLFLOW_TRACKING_URI": f"sqlite:///{_database(template)}",
        }
        stack.enter_context(mock.patch.dict(os.environ, given))
        stack.enter_context(mock.patch.object(champion, "time", clock))
        stack.enter_context(mock.patch.object(champion, "datetime", now))
        stack.enter_context(mock.patch("modelmill.registry.ledger_table.datetime", now))
        components = {**catalogue.catalogue(), **_COMPONENTS}
        stack.enter_context(mock.patch.object(catalogue, "catalogue", return_value=components))
        yield World(folder, seed, points, clock)


def play(template: Path, seed: int, nights: int) -> tuple[World, str]:
    """Play a seed; return its world, and what went wrong (empty: nothing)."""
    with crash_points() as points, deployment(template, points, seed) as world:
        try:
            world.play(nights)
        except (ViolationError, ModelmillError) as error:
            return world, str(error)
        except Exception:
            return world, traceback.format_exc()
    return world, ""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--nights", type=int, default=4)
    parser.add_argument("--processes", type=int, default=1)
    options = parser.parse_args()
    deaths, wrong, seconds = Counter[str](), 0, 0.0
    last = options.first + options.seeds
    pieces = [range(at, min(at + _PIECE, last)) for at in range(options.first, last, _PIECE)]
    # What MLflow and SQLAlchemy keep of each deployment goes with its process.
    with ProcessPoolExecutor(
        options.processes, mp_context=multiprocessing.get_context("spawn"), max_tasks_per_child=1
    ) as pool:
        for piece in pool.map(_play_piece, pieces, itertools.repeat(options.nights)):
            deaths, wrong, seconds = deaths + piece[0], wrong + piece[1], seconds + piece[2]
    print(f"{deaths.total()} deaths at")
    for name, count in deaths.most_common():
        print(f"  {count:6}  {name}")
    print(
        f"{options.seeds} seeds with {options.nights} nights each: {wrong} wrong, {deaths.total()} deaths, "
        f"{seconds / options.seeds:.2f} CPU s a seed"
    )
    sys.exit(wrong > 0)


def _play_piece(seeds: range, nights: int) -> tuple[Counter[str], int, float]:
    """Play some seeds; return where processes died, how many seeds went wrong, and the CPU seconds."""
    began, deaths, wrong = time.process_time(), Counter[str](), 0
    with tempfile.TemporaryDirectory() as folder:
        template = Path(folder) / "mlflow.db"
        make_tracking_database(template)
        play(template, 0, 1)  # what a process does once would change where the first seed dies
        for seed in seeds:
            world, error = play(template, seed, nights)
            deaths += world.deaths
            if error:
                wrong += 1
                print(f"seed {seed}: {error}", *world.log[-40:], sep="\n", flush=True)
    return deaths, wrong, time.process_time() - began


if __name__ == "__main__":
    main()
