"""Each component dies before and after its effects, is tried again, and must end as if it had not died.

``./run python -m benchmarks.step_deaths`` makes a small world: rows, a dataset, a model. Each of
:data:`COMPONENTS` is run without a death, and then for up to eight positions among its effects
(:mod:`benchmarks.crash_points`): half of them among those of MLflow and Delta, half among all, files
included. There it dies, and the same step is run again, as Airflow does. Compared with the run that lived:
the rows of each table and its commits, the digest of each model, one finished run and none that is left
RUNNING, versions, the alias and the rows of the ledger. What lived is asked for once more, too: that must
reuse the run and change nothing.

Each case has an MLflow experiment, tables and a registered model of its own, in one MLflow with SQLite.
``--components distill prune quantize`` are those that export a model: each takes many seconds.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import hashlib
import io
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import pyarrow as pa
from benchmarks.crash_points import CrashPoints, Died, crash_points
from benchmarks.factory_pipeline import write_base_model
from benchmarks.growth import make_model
from deltalake import DeltaTable, write_deltalake

from modelmill.artifacts import AnyReference, DatasetRef, ModelRef, TableRef, VerdictRef
from modelmill.component import StepContext
from modelmill.models.bundle import BundleInfo
from modelmill.pipeline.request import StepRequest
from modelmill.pipeline.runner import run_step
from modelmill.registry import ledger
from modelmill.registry.bundles import log_model
from modelmill.registry.tracking import experiment_id, make_tracking_database, open_run, tracking_client
from modelmill.registry.versions import CHAMPION
from modelmill.settings import Settings
from modelmill.tables.reading import read_arrow

POINTS = 8
"""Positions at which each component dies: six at least, since a second run may have fewer effects."""
AGAIN = "nowhere: asked for once more"
SLOW = ("distill", "prune", "quantize")
SHARED = ("mlflow", "delta")
"""Effects that others see at once."""
_FAST = {"epochs": 1, "batch_size": 16, "learning_rate": 1e-3, "checkpoint_seconds": 1e-9}
_RULES = """
rule_set: desk
key: id
signals:
  sport: {kind: phrases, column: body, phrases: [sport]}
  long: {kind: measured, function: digits, columns: [body]}
rules:
  - {name: sport, when: sport, then: read}
default: pass
"""


@dataclass(frozen=True)
class End:
    """How things stand after a step has gone through."""

    outputs: tuple[str, ...]
    """Ports, with the rows of tables and the digests of models."""
    commits: tuple[int, ...]
    """Of each table that it made."""
    runs: tuple[str, ...]
    """Status of each of its runs that is not deleted."""
    models: tuple[str, ...]
    """Status of each logged model."""
    champion: tuple[int, ...]
    """Versions, the version with the alias, and rows of the ledger."""


@dataclass
class World:
    """What the steps read, in one deployment."""

    folder: Path
    settings: Settings
    points: CrashPoints

    def __post_init__(self) -> None:
        write_base_model(self.folder / "base")
        topics = ("sport", "trade")
        rows = [
            {"id": f"r{n:03d}", "body": f"{topics[n % 2]} news number {n * 7919}", "topic": topics[n % 2]}
            for n in range(60)
        ]
        table = pa.Table.from_pylist(rows)
        write_deltalake(str(self.folder / "raw"), table)
        people = {"key": ["r000"], "label": ["trade"], "who": ["ada"], "when": [0]}
        when = pa.array(people["when"], pa.timestamp("us", "UTC"))
        write_deltalake(str(self.folder / "people"), pa.table({**people, "when": when}))
        (self.folder / "landing").mkdir()
        table.to_pandas().to_json(self.folder / "landing" / "a.jsonl", orient="records", lines=True)
        (self.folder / "rules.yaml").write_text(_RULES)
        self.raw = TableRef(uri=str(self.folder / "raw"), version=0)
        self.people = TableRef(uri=str(self.folder / "people"), version=0)
        self.dataset: Any = self._first("build_dataset")["dataset"]
        self.exported = self._model()

    @functools.cached_property
    def teacher(self) -> AnyReference:
        return self._first("fine_tune")["model"]

    @functools.cached_property
    def scored(self) -> AnyReference:
        return self._first("score_table")["table"]

    def _model(self) -> ModelRef:
        """Log a model of the topics that nobody has trained."""
        place = self.folder / "bundle"
        make_model(place)
        info = BundleInfo.load(place)
        info.model_copy(update={"label": "topic", "classes": ("sport", "trade"), "text": "body"}).save(place)
        client = tracking_client(self.settings.tracking_uri)
        experiment = experiment_id(client, "world", artifact_root=self.folder / "artifacts")
        context = StepContext(
            pipeline="world",
            step="model",
            step_key="0" * 64,
            run=open_run(client, experiment, "0" * 64, name="model", tags={}),
            workdir=self.folder,
            cache=self.folder / "cache",
            settings=self.settings,
            progress=lambda *_, **__: None,
            log=lambda _: None,
        )
        return log_model(place, role="exported", dataset=self.dataset, context=context)

    def _first(self, component: str) -> dict[str, AnyReference]:
        return dict(run_step(self.request(component, "world"), self.settings).outputs)

    def request(self, component: str, case: str) -> StepRequest:
        """Return a step that nobody has run: of a pipeline, with tables and a model's name of its own."""
        config, inputs = COMPONENTS[component](self, f"{component}-{case}")
        return StepRequest(
            pipeline=f"{component}-{case}", step=component, component=component, config=config, inputs=inputs
        )

    def to(self, case: str) -> dict[str, str]:
        return {"to": str(self.folder / "made" / case)}

    def verdict(self, case: str) -> VerdictRef:
        return VerdictRef(
            passed=True,
            name=case,
            challenger=self.exported,
            champion_version=None,
            reasons=(),
            uri="runs:/r/verdict.json",
            run_id="r",
        )


Made = tuple[dict[str, Any], dict[str, Any]]
_LABELS = {"key": "id", "text": "body", "labels": ["topic"]}
_FUNCTIONS = {
    "sport": {"when": "contains(body, 'sport')", "label": "sport"},
    "trade": {"when": "contains(body, 'trade')", "label": "trade"},
}
COMPONENTS: dict[str, Callable[[World, str], Made]] = {
    "ingest": lambda world, case: ({"source": f"{world.folder}/landing/*.jsonl", **world.to(case)}, {}),
    "build_dataset": lambda world, case: (
        {**_LABELS, "near_duplicates": None, **world.to(case)},
        {"table": world.raw},
    ),
    "label_rows": lambda world, case: (
        {"functions": _FUNCTIONS, "label": "by_rule", **world.to(case)},
        {"table": world.raw},
    ),
    "apply_labels": lambda world, case: (
        {"key": "id", "label": "topic", **world.to(case)},
        {"table": world.raw, "labels": world.people},
    ),
    "rank_label_errors": lambda world, case: ({"folds": 2, **world.to(case)}, {"dataset": world.dataset}),
    "fine_tune": lambda world, _case: (
        {"base_model": str(world.folder / "base"), "frozen_layers": 0, "max_tokens": 16, **_FAST},
        {"dataset": world.dataset},
    ),
    "distill": lambda world, _case: (
        {"layers": 1, **_FAST},
        {"dataset": world.dataset, "teacher": world.teacher},
    ),
    "prune": lambda world, _case: (
        {"moves": ({"method": "heads", "keep": 0.5},), **_FAST},
        {"dataset": world.dataset, "model": world.teacher},
    ),
    "quantize": lambda world, _case: ({}, {"dataset": world.dataset, "model": world.teacher}),
    "evaluate": lambda world, _case: (
        {"resamples": 100, "throughput_rows": 32, "baselines": False},
        {"dataset": world.dataset, "models": (world.exported,)},
    ),
    "gate": lambda world, case: (
        {"name": case, "resamples": 200},
        {"dataset": world.dataset, "challenger": world.exported},
    ),
    "promote": lambda world, case: ({}, {"verdict": world.verdict(case)}),
    "score_table": lambda world, case: (world.to(case), {"table": world.raw, "model": world.exported}),
    "monitor": lambda world, case: (
        {"name": case},
        {"scored": world.scored, "dataset": world.dataset, "model": world.exported},
    ),
    "decide": lambda world, case: (
        {"rule_set": str(world.folder / "rules.yaml"), **world.to(case)},
        {"table": world.raw},
    ),
}
"""Configuration and inputs of each step."""


def end_of(world: World, request: StepRequest, outputs: dict[str, AnyReference]) -> End:
    """Return how things stand.

    :param world: the deployment.
    :param request: the step.
    :param outputs: what it yielded.
    :return: what must be the same with and without a death.
    """
    client = tracking_client(world.settings.tracking_uri)
    experiment = client.get_experiment_by_name(request.pipeline)
    found = [experiment.experiment_id] if experiment else []
    versions = client.search_model_versions(f"name = '{request.pipeline}'")
    alias = [int(one.version) for one in versions if CHAMPION in (one.aliases or [])]
    rows = ledger.entries(world.settings, model=request.pipeline)
    tables = [one for one in outputs.values() if isinstance(one, TableRef | DatasetRef)]
    return End(
        outputs=tuple(f"{port} {content(one)}" for port, one in sorted(outputs.items())),
        commits=tuple(len(DeltaTable(one.uri).history()) for one in tables),
        runs=tuple(sorted(run.info.status for run in client.search_runs(found))),
        models=tuple(sorted(str(one.status.value) for one in client.search_logged_models(found))),
        champion=(len(versions), *alias, len(rows)),
    )


def content(reference: AnyReference) -> str:
    """Return what a reference stands for: the digest of a model, how many rows a table has, and theirs.

    :param reference: of a step's output.
    :return: the same for the same content.
    """
    if isinstance(reference, ModelRef):
        return reference.digest
    if isinstance(reference, TableRef | DatasetRef):
        rows = sorted(map(str, read_arrow(reference).to_pylist()))
        return f"{len(rows)} rows {hashlib.sha256(repr(rows).encode()).hexdigest()[:12]}"
    return type(reference).__name__


def places(count: int, wanted: int) -> list[int]:
    """Return positions that lie evenly among all: the first and the last are among them."""
    if count <= wanted or wanted < 2:
        return list(range(min(count, wanted)))
    return sorted({round(number * (count - 1) / (wanted - 1)) for number in range(wanted)})


def deaths(world: World, component: str, *, points: int = POINTS) -> Iterator[tuple[str, str]]:
    """Let a component die at positions among its effects, and try it again.

    :param world: the deployment.
    :param component: its name.
    :param points: positions at most.
    :yield: where it died, and what was wrong afterwards; empty: nothing.
    """
    request = world.request(component, "lives")
    counts: dict[tuple[str, ...], int] = {}
    with world.points.life():
        lived = run_step(request, world.settings)
    counts[("",)] = world.points.count
    expected = end_of(world, request, dict(lived.outputs))
    again = run_step(request, world.settings)
    same = again.reused and end_of(world, request, dict(again.outputs)) == expected
    yield AGAIN, "" if same else "it was not reused, or something has changed"
    counted = world.request(component, "counts")
    with world.points.life(kinds=SHARED):
        run_step(counted, world.settings)
    counts[SHARED] = world.points.count
    for kinds, count in counts.items():
        for at in places(count, (points + 1) // 2):
            yield from _death(world, component, at, kinds, expected)


def _death(
    world: World, component: str, at: int, kinds: Sequence[str], expected: End
) -> Iterator[tuple[str, str]]:
    request = world.request(component, f"{'any' if kinds == ('',) else 'shared'}-{at}")
    try:
        with world.points.life(at, kinds=tuple(kinds)):
            run_step(request, world.settings)
        return  # it had fewer effects than the first time: no death, no case
    except Died:
        where = world.points.place
    try:
        found = end_of(world, request, dict(run_step(request, world.settings).outputs))
    except Exception as error:
        yield where, f"{type(error).__name__}: {error}"
        return
    yield where, "" if found == expected else f"{found}, expected {expected}"


@contextlib.contextmanager
def world(folder: Path) -> Iterator[World]:
    """Make a deployment, with its engine and its MLflow, in this process.

    :param folder: an empty folder.
    :yield: its world.
    """
    from modelmill import jobs
    from modelmill.spark import session

    given = {"MODELMILL_HOME": f"{folder}/home", "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"}
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.dict(os.environ, given))
        settings = Settings.from_environment()
        make_tracking_database(folder / "mlflow.db")
        # One session for all: starting one takes longer than most steps.
        spark = stack.enter_context(session(settings))
        own = mock.patch.object(jobs, "session", side_effect=lambda _=None: contextlib.nullcontext(spark))
        stack.enter_context(own)
        points = stack.enter_context(crash_points())
        yield World(folder, settings, points)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--points", type=int, default=POINTS)
    parser.add_argument("--components", nargs="*", default=[one for one in COMPONENTS if one not in SLOW])
    options = parser.parse_args()
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as name, world(Path(name)) as place:
        for component in options.components:
            counts += _told(component, deaths(place, component, points=options.points))
    right, wrong = counts["right"], counts["wrong"]
    print(f"{right} of {right + wrong} end right")
    print(f"{counts['again']} of {len(options.components)} components change nothing when asked again")
    sys.exit(wrong > 0 or counts["again"] != len(options.components))


def _told(component: str, cases: Iterator[tuple[str, str]]) -> Counter[str]:
    """Play a component's cases, and print what came of them."""
    began, places, counts = time.process_time(), [], Counter[str]()
    while True:
        with contextlib.redirect_stdout(io.StringIO()):  # what steps say
            case = next(cases, None)
        if case is None:
            break
        where, problem = case
        if problem:
            print(f"  {component}, {where}: {problem}", flush=True)
        if where == AGAIN:
            counts["again"] += not problem
            continue
        counts["wrong" if problem else "right"] += 1
        places.append(where)
    seconds = time.process_time() - began
    said = f"{counts['right']} of {len(places)} right, {seconds:.0f} CPU s"
    print(f"{component}: {said}; {', '.join(places)}", flush=True)
    return counts


if __name__ == "__main__":
    main()
