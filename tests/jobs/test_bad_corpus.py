"""Every component that reads tables,  every table that is wrong: one typed line, or a whole result.

The other 170 bad inputs are those of ``test_bad_datasets.py`` (ingest, delta_table, build_dataset) and of
``tests/integration/test_bad_inputs.py`` (whole pipelines).
"""

from __future__ import annotations

import contextlib
import importlib.util
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from deltalake import write_deltalake

from modelmill.artifacts import DatasetRef, ModelRef, TableRef, VerdictRef
from modelmill.component import StepContext
from modelmill.errors import InputError
from modelmill.pipeline.request import StepRequest
from modelmill.pipeline.runner import run_step
from modelmill.registry.bundles import log_model
from modelmill.registry.tracking import experiment_id, open_run, tracking_client
from modelmill.settings import Settings
from modelmill.tables.reading import read_arrow

# Test modules are in no package and on no path.
_PLACE = Path(__file__).with_name("bad_corpus.py")
_SPEC = importlib.util.spec_from_file_location("bad_corpus", _PLACE)
assert _SPEC is not None
assert _SPEC.loader is not None
sys.modules["bad_corpus"] = corpus = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(corpus)

RULES = """
rule_set: desk
key: id
signals:
  ship: {kind: phrases, column: text, phrases: [grain ship]}
  price: {kind: column, column: price}
  dear: {kind: sql, expression: price > 10}
  money: {kind: model, column: text, model: MODEL, label: money}
rules:
  - {name: ship, when: ship AND dear, then: remove}
  - {name: money, when: money > 0.6, then: review}
default: allow
on_unknown: look
"""
FUNCTIONS = {
    "ship": {"when": "contains(text, 'ship')", "label": "grain"},
    "rate": {"when": "contains(text, 'rate')", "label": "money"},
}


def dataset_at(place: Path) -> DatasetRef:
    return DatasetRef(uri=str(place), version=0, key="id", text="text", labels=("topic",), split="split")


@dataclass(frozen=True)
class World:
    """One deployment for all cases, with what a step needs beside the table that is wrong."""

    folder: Path
    settings: Settings
    model: ModelRef
    base_model: Path

    @property
    def good(self) -> DatasetRef:
        return dataset_at(self.folder / "good")

    @property
    def good_table(self) -> TableRef:
        return TableRef(uri=self.good.uri, version=0)

    @property
    def rules(self) -> str:
        return str(self.folder / "rules.yaml")

    def request(self, component: str, place: Path) -> StepRequest:
        """Return a step whose input is the table at ``place``."""
        config, inputs = COMPONENTS[component](self, place)
        if "to" in config:
            config["to"] = str(self.folder / "made" / component / place.name)
        name = component.partition(":")[0]
        return StepRequest(pipeline="bad", step="step", component=name, config=config, inputs=inputs)


@pytest.fixture(scope="module")
def world(
    tmp_path_factory: pytest.TempPathFactory,
    mlflow_database: Path,
    sail: Any,
    bundle: tuple[Path, ModelRef],
    tiny_base_model: Path,
) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("corpus")
    shutil.copy(mlflow_database, folder / "mlflow.db")
    (folder / "made").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MODELMILL_HOME", str(folder / "home"))
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        patch.setattr("modelmill.jobs.session", lambda settings: contextlib.nullcontext(sail))
        settings = Settings.from_environment()
        write_deltalake(str(folder / "good"), corpus.table_of(corpus.good()))
        (folder / "rules.yaml").write_text(RULES.replace("MODEL", str(bundle[0])))
        model = log_model(
            bundle[0],
            role="exported",
            dataset=dataset_at(folder / "good"),
            context=_context(folder, settings),
        )
        yield World(folder, settings, model, tiny_base_model)


def _context(folder: Path, settings: Settings) -> StepContext:
    client = tracking_client(settings.tracking_uri)
    run = open_run(
        client,
        experiment_id(client, "model", artifact_root=folder / "artifacts"),
        "0" * 64,
        name="model",
        tags={},
    )
    return StepContext(
        pipeline="model",
        step="model",
        step_key="0" * 64,
        run=run,
        workdir=folder,
        cache=folder / "cache",
        settings=settings,
        progress=lambda done, total, **figures: None,
        log=lambda line: None,
    )


Made = tuple[dict[str, Any], dict[str, Any]]


def table(place: Path) -> TableRef:
    return TableRef(uri=str(place), version=0)


COMPONENTS: Mapping[str, Callable[[World, Path], Made]] = {
    "label_rows": lambda world, place: (
        {"functions": FUNCTIONS, "label": "by_rule", "gold": "topic", "to": ""},
        {"table": table(place)},
    ),
    "score_table": lambda world, place: (
        {"keep": ["id"], "to": ""},
        {"table": table(place), "model": world.model},
    ),
    "decide": lambda world, place: (
        {"rule_set": world.rules, "keep": ["seen"], "to": ""},
        {"table": table(place)},
    ),
    "try_rules": lambda world, place: (
        {"rule_set": world.rules, "label": "topic", "decision_of": {"grain": "remove", "money": "review"}},
        {"table": table(place)},
    ),
    "apply_labels": lambda world, place: (
        {"key": "id", "label": "topic", "to": ""},
        {"table": table(place), "labels": labels(world)},
    ),
    "monitor: scored": lambda world, place: (
        {"name": "m"},
        {"scored": table(place), "dataset": world.good, "model": world.model},
    ),
    "monitor: dataset": lambda world, place: (
        {"name": "m"},
        {"scored": world.good_table, "dataset": dataset_at(place), "model": world.model},
    ),
    "monitor: labels": lambda world, place: (
        {"name": "m", "key": "id", "label": "topic"},
        {
            "scored": world.good_table,
            "dataset": world.good,
            "model": world.model,
            "labels": table(place),
        },
    ),
    "rank_label_errors": lambda world, place: ({"to": ""}, {"dataset": dataset_at(place)}),
    "fine_tune": lambda world, place: (
        {"base_model": str(world.base_model), "epochs": 1, "max_tokens": 16},
        {"dataset": dataset_at(place)},
    ),
    "adapt_trunk": lambda world, place: (
        {"base_model": str(world.base_model), "epochs": 1, "max_tokens": 16, "columns": ["text"]},
        {"tables": (table(place),)},
    ),
    "evaluate": lambda world, place: (
        {"resamples": 100, "throughput_rows": 32},
        {"dataset": dataset_at(place), "models": (world.model,)},
    ),
    "gate": lambda world, place: (
        {"name": "g", "resamples": 200},
        {"dataset": dataset_at(place), "challenger": world.model},
    ),
}
"""Configuration and inputs of a step whose table is wrong; ``to`` is filled in."""


def labels(world: World) -> TableRef:
    """Labels that people gave to the good rows."""
    place = world.folder / "people"
    if not place.exists():
        names = {"id": "key", "topic": "label", "split": "who", "seen": "when"}
        rows = corpus.table_of(corpus.good())
        write_deltalake(str(place), rows.rename_columns([names.get(n, n) for n in rows.column_names]))
    return table(place)


Expected = Mapping[str, str | int | None]
"""What the refusal says, rows that come out, or None: a report or a verdict comes out."""

BROKEN: Expected = {
    "deletion vector torn": "deletion vectors must be readable",
    "feature of the future": "got 'quantumRows'",
    "file missing": "missing",
    "file torn": "bytes instead of",
}
NO_TEXT: Expected = {"column renamed": "did you mean 'txt'", "column mapping": "'text (new)'"}
NO_STRINGS: Expected = {
    "type null": "must hold strings",
    "text a number": "got 'text: int64'",
    "nested": "got 'text: struct<en: string>'",
}
DATASET: Expected = {
    **BROKEN,
    **NO_TEXT,
    **NO_STRINGS,
    "only nulls": "a row of a dataset must have a text",
    "label gone": "got 'topic'",
    "key gone": "got 'id'",
}
JUDGED: Expected = {
    **DATASET,
    "nulls": "a row of a dataset must have a text",
    "lone surrogate": "texts must be valid UTF-8",
    "label NaN": "'topic' holds number; got 'class'",
    "no rows": "the test split must have rows with a value in 'topic'",
    "one row": "the test split must have rows with a value in 'topic'",
    "split unknown": "the test split must have rows with a value in 'topic'",
}

EXPECTED: Mapping[str, Expected] = {
    "label_rows": {
        **BROKEN,
        "column renamed": "did you mean 'txt'",
        "only nulls": "must vote on a row",
        "type null": "must vote on a row",
        "text a number": "contains takes text; got a number",
        "nested": "a column must have a simple type",
        "no rows": "a table to label must have rows",
        "lone surrogate": "non UTF-8 data",
        "label gone": "got 'topic'",
        "deletion vectors": 22,
    },
    "score_table": {
        **BROKEN,
        **NO_TEXT,
        "nested": "struct<en: string>",
        "lone surrogate": "non UTF-8 data",
        "key gone": "got 'id'",
        "no rows": 0,
        "one row": 1,
        "nulls": 24,
        "only nulls": 24,
        "type null": 24,
        "deletion vectors": 22,
    },
    "decide": {
        **BROKEN,
        "column renamed": "did you mean 'txt'",
        "column mapping": "must have its key column",
        "text a number": "must be of kind text; got 'text: int64'",
        "nested": "must have a simple type; got 'text: struct",
        "key gone": "must have its key column",
        "all alike": "a key in column 'id' belongs to one row",
        "no rows": 0,
        "one row": 1,
        "nulls": 24,
        "type null": 24,
        "infinite": 24,
        "lone surrogate": 24,
        "hours of a clock change": 24,
        "deletion vectors": 22,
    },
    "try_rules": {
        **BROKEN,
        "column renamed": "did you mean 'txt'",
        "column mapping": "got 'topic'",
        "text a number": "must be of kind text; got 'text: int64'",
        "nested": "must have a simple type; got 'text: struct",
        "no rows": "rules are tried on rows",
        "label gone": "got 'topic'",
        "key gone": "got 'id'",
    },
    "apply_labels": {
        **BROKEN,
        "column mapping": "got 'id'",
        "key gone": "got 'id'",
        "label a number": "got 'string for int64'",
        "label NaN": "got 'string for double'",
        "no rows": 0,
        "one row": 1,
        "all alike": 24,
        "cell of 10 MB": 24,
        "lone surrogate": 24,
        "nested": 24,
        "hours of a clock change": 24,
        "label gone": 24,
        "deletion vectors": 22,
    },
    "monitor: scored": {
        **BROKEN,
        **NO_TEXT,
        **NO_STRINGS,
        "lone surrogate": "scored texts must be valid UTF-8",
        "NaN": None,
        "infinite": None,
        "only nulls": None,
        "no rows": None,
        "hours of a clock change": None,
    },
    "monitor: dataset": {
        **DATASET,
        "nulls": "a row of a dataset must have a text",
        "lone surrogate": "texts must be valid UTF-8",
        "label NaN": "must have test or validation rows",
        "no rows": "must have test or validation rows",
        "one row": "must have test or validation rows",
    },
    "monitor: labels": {
        **BROKEN,
        "column mapping": "'id (new)'",
        "label NaN": "judged by a label of kind class",
        "all alike": "a row has one label",
        "label gone": "got 'topic'",
        "key gone": "got 'id'",
    },
    "rank_label_errors": {
        **DATASET,
        "nulls": "two labels must have 5 rows or more",
        "label NaN": "two labels must have 5 rows or more",
        "no rows": "got '0 rows of such labels'",
        "one row": "got '0 rows of such labels'",
        "one class": "two labels must have 5 rows or more",
        "all alike": "two labels must have 5 rows or more",
    },
    "fine_tune": {
        **DATASET,
        "nulls": "at least two classes in the train split",
        "label NaN": "the train split must have labelled rows",
        "no rows": "the train split must have labelled rows",
        "one row": "at least two classes in the train split",
        "one class": "at least two classes in the train split",
        "all alike": "at least two classes in the train split",
        "lone surrogate": "texts must be valid UTF-8",
    },
    "adapt_trunk": {
        **BROKEN,
        **NO_TEXT,
        **NO_STRINGS,
        "only nulls": "24 null",
        "no rows": "0 texts read",
        "one row": "1 texts read",
        "all alike": "23 equal to another",
        "lone surrogate": "texts must be valid UTF-8",
    },
    "evaluate": {**JUDGED, "label a number": "must know a class of the test rows: '0, 1'"},
    "gate": {
        **JUDGED,
        "all alike": "test rows must be left that no compared model has learnt from",
        "test rows among those learned from": "test rows must be left",
        "label a number": None,
        "one class": None,
    },
}
CASES = [(component, name) for component, expected in EXPECTED.items() for name in expected]


@pytest.fixture(scope="module")
def places(world: World) -> Mapping[str, Path]:
    """The tables of the corpus."""
    found = {}
    for number, (name, make) in enumerate(corpus.CORPUS.items()):
        found[name] = world.folder / f"table{number}"
        make(found[name])
    return found


@pytest.mark.parametrize(("component", "name"), CASES, ids=[" - ".join(case) for case in CASES])
def test_a_bad_table(component: str, name: str, world: World, places: Mapping[str, Path]) -> None:
    request, expected = world.request(component, places[name]), EXPECTED[component][name]
    if isinstance(expected, str):
        with pytest.raises(InputError) as caught:
            run_step(request, world.settings)
        said = str(caught.value)
        assert expected in said
        assert "\n" not in said
        assert caught.value.remedy or "problem" in said, "rule, value and remedy"
        assert len(said) < 1500
        place = world.folder / "made" / component / places[name].name
        assert not (place / "_delta_log").exists(), "a refused step makes no table"
        runs = tracking_client(world.settings.tracking_uri)
        experiment = runs.get_experiment_by_name("bad")
        left = runs.search_runs([experiment.experiment_id]) if experiment else []
        assert {run.info.status for run in left} <= {"FINISHED"}
        return
    outputs = run_step(request, world.settings).outputs
    tables = [one for one in outputs.values() if isinstance(one, TableRef)]
    if expected is not None:
        assert read_arrow(tables[0]).num_rows == expected, "rows in are rows out"
    for one in outputs.values():
        assert not isinstance(one, VerdictRef) or not one.passed, "nothing is promoted by such rows"


def test_each_table_of_the_corpus_is_tried() -> None:
    assert {name for _, name in CASES} | {"label only in test"} == set(corpus.CORPUS)
    assert len(CASES) >= 200
