"""What ``benchmarks/soak.py`` does in processes of its own: the steps of a night, the removal, the checks.

Each of these is called in a fork, which may be killed at any moment. The clock is that of the soak: a night
is a day, and nobody waits for it.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

DAY = 86_400.0
MODEL = "soak_topic"
ORDER = ("raw", "dataset", "teacher", "student", "verdict", "champion", "scored")
TABLES = ("raw", "dataset", "scored")
DAYS = {"days": 2.0, "cache_days": 4.0, "run_days": 7.0, "version_days": 14.0, "table_days": 7.0}
"""The policy: after so many days things go."""
PIPELINE = """
pipeline: soak
steps:
  raw: {{component: ingest, config: {{source: "{folder}/landing/*.jsonl", to: "{folder}/tables/raw"}}}}
  dataset:
    component: build_dataset
    inputs: {{table: raw.table}}
    config:
      {{key: id, text: text, labels: [label], split: {{test: 0.3, validation: 0.1}}, near_duplicates: null,
       to: "{folder}/tables/dataset"}}
  teacher:
    component: fine_tune
    inputs: {{dataset: dataset.dataset}}
    config: {{base_model: "{folder}/base", max_tokens: 16, frozen_layers: 0, epochs: 1, batch_size: 32,
      learning_rate: 3.0e-3, head_learning_rate: 1.0e-2, checkpoint_seconds: 0.2}}
  student:
    component: distill
    inputs: {{dataset: dataset.dataset, teacher: teacher.model}}
    config: {{layers: 1, epochs: 1, batch_size: 32, learning_rate: 3.0e-3}}
  verdict:
    component: gate
    inputs: {{dataset: dataset.dataset, challenger: student.model}}
    config:  # what a model with random weights learns in an epoch does not matter here
      {{name: {model}, resamples: 200, max_drop: 0.5, max_drift: 0.5, max_below_baseline: 0.99,
       beat_majority: false, min_recall: null, max_calibration_error: null}}
  champion: {{component: promote, inputs: {{verdict: verdict.verdict}}}}
  scored:
    component: score_table
    inputs: {{table: raw.table, model: champion.model}}
    config: {{to: "{folder}/tables/scored"}}
"""


@contextlib.contextmanager
def clock_ahead(seconds: float) -> Iterator[None]:
    """Have the time of this process ahead of the machine's, wherever a night looks at it."""
    from modelmill.registry import champion, ledger_table
    from modelmill.tables import versions

    real = time.time
    ahead = timedelta(seconds=seconds)
    shown = SimpleNamespace(
        now=lambda zone=UTC: datetime.now(zone) + ahead, fromtimestamp=datetime.fromtimestamp
    )
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch("time.time", new=lambda: real() + seconds))  # noqa: PT008 (it is called)
        for module in (champion, ledger_table, versions):
            stack.enter_context(mock.patch.object(module, "datetime", shown))
        yield


def base_model(folder: Path) -> None:
    from benchmarks.factory_pipeline import write_base_model

    write_base_model(folder / "base")
    (folder / "pipeline.yaml").write_text(PIPELINE.format(folder=folder, model=MODEL))


def step(folder: Path, name: str, outputs: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Run a step; return its outputs, and whether they were there already."""
    from modelmill.artifacts import parse_reference
    from modelmill.pipeline.expansion import expand
    from modelmill.pipeline.local_run import request_for
    from modelmill.pipeline.runner import run_step
    from modelmill.pipeline.validation import load_pipeline
    from modelmill.settings import Settings

    spec = load_pipeline(str(folder / "pipeline.yaml"))
    known = {
        one: {port: parse_reference(value) for port, value in ports.items()} for one, ports in outputs.items()
    }
    request = request_for(expand(spec), name, spec.param_values(), known)
    result = run_step(request, Settings.from_environment())
    found = {port: value.model_dump(mode="json") for port, value in result.outputs.items()}
    return {"outputs": found, "reused": result.reused}


def remove_old(folder: Path) -> None:
    """Remove what the policy does not keep, as ``modelmill gc --apply`` does."""
    from modelmill.cli.gc import gc

    tables = sorted(str(log.parent) for log in (folder / "tables").glob("*/_delta_log"))
    gc(apply=True, table=tables, **DAYS)


def check(folder: Path, *, rows: int, whole: bool, doubled: bool) -> dict[str, Any]:
    """Compare everything with what has to be.

    :param folder: of the soak.
    :param rows: that have landed.
    :param whole: whether also all that the policy keeps is loaded.
    :param doubled: whether a step may have finished twice: its result was damaged.
    :return: what is wrong, how many of each thing there are, and how many were loaded.
    """
    checks = _Checks(folder, rows)
    checks.rows_are_there_once()
    checks.registry_and_ledger()
    checks.runs(doubled=doubled)
    if whole:
        checks.load_models()
        checks.travel_in_time()
    return {"wrong": checks.wrong, "counts": checks.counts}


class _Checks:
    """What is wrong, and what there is."""

    def __init__(self, folder: Path, rows: int) -> None:
        from modelmill.registry.tracking import tracking_client
        from modelmill.settings import Settings

        self.folder, self.expected = folder, Counter(f"row-{number}" for number in range(rows))
        self.settings = Settings.from_environment()
        self.client = tracking_client(self.settings.tracking_uri)
        self.wrong: list[str] = []
        self.counts: dict[str, int] = {}

    def same(self, what: str, found: Any, wanted: Any) -> None:
        if found != wanted:
            self.wrong.append(f"{what}: {str(found)[:300]}, expected {str(wanted)[:300]}")

    def rows_are_there_once(self) -> None:
        from modelmill.tables.reading import read_arrow
        from modelmill.tables.versions import resolve_table

        for name, column in (("raw", "id"), ("dataset", "example_key"), ("scored", "id")):
            table = read_arrow(resolve_table(str(self.folder / "tables" / name)), columns=[column])
            found = Counter(map(str, table.column(column).to_pylist()))
            self.same(f"lost rows of {name}", sorted((self.expected - found).elements()), [])
            self.same(f"doubled rows of {name}", sorted((found - self.expected).elements()), [])

    def registry_and_ledger(self) -> None:
        from modelmill.registry.bundles import TAG_DIGEST
        from modelmill.registry.ledger import entries, head
        from modelmill.registry.versions import all_pages, champion_of

        self.rows = entries(self.settings, model=MODEL)
        self.versions = list(all_pages(self.client.search_model_versions, filter_string=f"name = '{MODEL}'"))
        digests = Counter(version.tags[TAG_DIGEST] for version in self.versions)
        self.same("doubled versions", [one for one, count in digests.items() if count > 1], [])
        keys = Counter(row.step_key for row in self.rows)
        self.same("rows of the ledger of one step", [one for one, count in keys.items() if count > 1], [])
        numbers = Counter(row.to_version for row in self.rows if row.action == "promote")
        self.same("promotions of one version", [one for one, count in numbers.items() if count > 1], [])
        alias, end = champion_of(self.client, MODEL), head(self.settings, MODEL)
        self.same("the champion's alias", alias and int(alias.version), end.champion)
        self.counts |= {"versions": len(self.versions), "ledger rows": len(self.rows)}

    def runs(self, *, doubled: bool) -> None:
        from modelmill.registry.versions import all_pages

        known = self.client.get_experiment_by_name("soak")
        experiment = known.experiment_id if known else ""
        runs = list(all_pages(self.client.search_runs, experiment_ids=[experiment]))
        states = Counter(run.info.status for run in runs)
        self.same("runs left RUNNING", states["RUNNING"], 0)
        done = Counter(run.data.tags["modelmill.step_key"] for run in runs if run.info.status == "FINISHED")
        steps = {run.data.tags["modelmill.step_key"]: run.data.tags["modelmill.step"] for run in runs}
        twice = {steps[key] for key, count in done.items() if count > 1} - {"champion"}
        if not doubled:
            self.same("steps that have finished twice", twice, set())
        models = list(all_pages(self.client.search_logged_models, experiment_ids=[experiment]))
        self.counts |= {"runs": len(runs), "models": len(models)}

    def load_models(self) -> None:
        """Load what an alias, a rollback, the gate or the ledger within the policy names, and its chain."""
        from modelmill.artifacts import DatasetRef
        from modelmill.registry.approval import last_approved
        from modelmill.registry.bundles import TAG_DATASET_REFERENCE, logged_model
        from modelmill.registry.history import previous_champion
        from modelmill.registry.versions import verified_version, verify_stored
        from modelmill.tables.reading import read_arrow

        young = [row for row in self.rows if time.time() - row.time.timestamp() < DAYS["version_days"] * DAY]
        approved, moves = last_approved(self.rows), [*young, self.rows[-1]]
        numbers = [number for row in moves for number in (row.to_version, row.from_version)]
        numbers += [previous_champion(self.rows), approved.version if approved else None]
        named = {number for number in numbers if number is not None}
        datasets = set()
        for number in sorted(named):
            model = verified_version(self.client, MODEL, number)
            if model.parent:
                verify_stored(logged_model(self.client, model.parent))
            tags = self.client.get_model_version(MODEL, str(number)).tags
            datasets.add(DatasetRef.model_validate_json(tags[TAG_DATASET_REFERENCE]))
        for dataset in datasets:
            self.same(f"rows of {dataset}", read_arrow(dataset).num_rows > 0, True)
        for row in young:
            run_id, _, path = row.evidence.removeprefix("runs:/").partition("/")
            self.same("the gate's report", bool(json.loads(self._text(run_id, path))), True)
            self.same(
                "the run of a row of the ledger", self.client.get_run(row.run_id).info.status, "FINISHED"
            )
        self.counts |= {"loaded versions": len(named), "loaded datasets": len(datasets)}

    def _text(self, run_id: str, path: str) -> str:
        from modelmill.system.scratch import scratch_folder

        with scratch_folder("modelmill-soak-") as scratch:
            return Path(self.client.download_artifacts(run_id, path, str(scratch))).read_text()

    def travel_in_time(self) -> None:
        """Read each table as it was at each time within the policy."""
        from modelmill.artifacts import TableRef
        from modelmill.tables.old_versions import oldest_version
        from modelmill.tables.reading import read_arrow
        from modelmill.tables.versions import resolve_table

        since = datetime.fromtimestamp(time.time() - DAYS["table_days"] * DAY, UTC)
        read = 0
        for name in TABLES:
            place = str(self.folder / "tables" / name)
            newest = resolve_table(place).version
            for version in range(oldest_version(place, since), newest + 1):
                read_arrow(TableRef(uri=place, version=version))
                read += 1
        self.counts["loaded table versions"] = read


def sizes(folder: Path) -> dict[str, int]:
    """Return the bytes of all files, by what they are."""
    found: Counter[str] = Counter()
    for root, _, names in os.walk(folder):
        for name in names:
            path = Path(root, name)
            parts = path.relative_to(folder).parts
            kind = parts[1] if parts[0] == "home" and len(parts) > 2 else parts[0]
            if "_delta_log" in parts:
                kind = "Delta logs"
            elif parts[0] == "tables":
                kind = f"{parts[1]} table"
            with contextlib.suppress(FileNotFoundError):
                found[kind] += path.stat().st_size
    return dict(found)
