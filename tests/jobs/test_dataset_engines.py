"""One input and one configuration give one dataset: on every engine, for every layout of the input."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from modelmill.artifacts import TableRef
from modelmill.datasets.build_record import Build
from modelmill.datasets.incremental import update
from modelmill.datasets.options import BuildOptions
from modelmill.datasets.request import BuildDatasetRequest
from modelmill.tables import lookup
from modelmill_jobs import near_duplicates, row_decisions, staging

SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("text", pa.string()),
        ("topic", pa.string()),
        ("tags", pa.list_(pa.string())),
        ("stars", pa.float64()),
        ("price", pa.decimal128(12, 3)),
        ("team", pa.string()),
        ("when", pa.timestamp("us", "UTC")),
        ("local", pa.timestamp("us")),
        ("day", pa.date32()),
        ("small", pa.float32()),
        ("blob", pa.binary()),
        (
            "about",
            pa.struct([("n", pa.int64()), ("at", pa.timestamp("us", "UTC")), ("x", pa.list_(pa.float64()))]),
        ),
        ("flag", pa.bool_()),
        ("part", pa.string()),
    ]
)
CARRIED = ["when", "local", "day", "small", "blob", "about", "flag", "team"]
LABELS = ["topic", "tags", "stars", "price"]
BY_KEY = {
    "key": "id",
    "text": "text",
    "labels": LABELS,
    "keep": CARRIED,
    "split": {"group": "team", "validation": 0.2, "test": 0.3},
    "contract": {"small": {"max": 90}, "when": {"required": True}},
}
BY_CONTENT = {
    "text": "text",
    "labels": LABELS,
    "keep": CARRIED,
    "split": {"column": "part", "validation": 0.2},
}
CONFIGS = pytest.mark.parametrize("config", [BY_KEY, BY_CONTENT], ids=["by_key", "by_content"])
START = datetime.datetime(2026, 2, 28, 23, 59, 59, 1, tzinfo=datetime.UTC)


def sometimes(value: Any, random_: random.Random, share: float = 0.1) -> Any:
    return None if random_.random() < share else value


def all_kinds(count: int = 400, *, seed: int = 0) -> pa.Table:
    """Rows with columns of all kinds, among them copies, near copies, chains, conflicts, bad rows."""
    random_ = random.Random(seed)
    words = [f"word{number}" for number in range(300)] + ["naïve", "東京", "Straße", "x"]
    rows: list[dict[str, Any]] = []
    for number in range(count):
        when = START + datetime.timedelta(seconds=random_.randrange(10**8), microseconds=number)
        row: dict[str, Any] = {
            "id": f"r{number}",
            "text": " ".join(random_.choices(words, k=random_.randint(12, 40))),
            "topic": sometimes(random_.choice("xyz"), random_),
            "tags": sometimes(random_.sample(["a", "b", "c", ""], k=random_.randint(0, 3)), random_),
            "stars": random_.choice([1.5, -0.0, 2.0, 1e-7, 1e16, float("nan"), None]),
            "price": sometimes(Decimal(random_.randrange(-999, 10**6)) / 1000, random_),
            "team": sometimes(f"t{random_.randrange(60)}", random_),
            "when": sometimes(when, random_, 0.05),
            "local": sometimes(when.replace(tzinfo=None), random_),
            "day": sometimes(when.date(), random_),
            "small": random_.choice([0.1, 3.4e38, 12.5, float("nan"), None]),
            "blob": random_.choice([b"", b"\x00\xff", None, bytes([number % 256])]),
            "about": sometimes({"n": number, "at": when, "x": [0.5, None, float("nan")]}, random_),
            "flag": random_.choice([True, False, None]),
            "part": sometimes(random_.choice(["train", "Training", "train", "test"]), random_, 0.03),
        }
        if rows and random_.random() < 0.4:
            other = random_.choice(rows[-40:])
            kind = random_.choice(["row", "copy", "near", "near", "key", "empty"])
            if kind == "row":
                row = dict(other)
            elif kind == "copy":
                row["text"] = other["text"]
            elif kind == "near":
                near = (other["text"] or "").split() or ["alone"]
                near[random_.randrange(len(near))] = random_.choice(words)
                row["text"] = " ".join(near)
            elif kind == "key":
                row["id"] = other["id"]
            else:
                row["text"] = random_.choice([" \u3000", "", None])
        rows.append(row)
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def shuffled(rows: pa.Table, *, seed: int) -> pa.Table:
    order = list(range(rows.num_rows))
    random.Random(seed).shuffle(order)
    return rows.take(pa.array(order))


def assert_same(one: Any, other: Any) -> None:
    assert other.build.summary == one.build.summary
    assert other.build.fates == one.build.fates
    # As text: NaN is not equal to itself.
    assert str(other.dataset.to_pylist()) == str(one.dataset.to_pylist())
    assert str(other.quarantine.to_pylist()) == str(one.quarantine.to_pylist())
    assert str(other.duplicates.to_pylist()) == str(one.duplicates.to_pylist())
    assert one.duplicates.num_rows == sum(one.build.fates.states.values())


@CONFIGS
def test_the_layout_of_the_input_does_not_matter(
    make_dataset: Callable[..., Any], config: dict[str, Any]
) -> None:
    rows = all_kinds()
    one = make_dataset(rows, config, to="one")
    fates = one.build.fates
    assert set(fates.states) >= {"duplicate", "near-duplicate"}, "or the test compares nothing"
    assert len(fates.reasons) >= 3
    assert_same(one, make_dataset(rows, config, to="eight", files=8))
    assert_same(one, make_dataset(shuffled(rows, seed=1), config, to="shuffled", files=3))


@CONFIGS
@pytest.mark.parametrize("entries", [1500, 150], ids=["a few bands in a part", "parts of a band"])
def test_many_small_parts_give_what_one_part_gives(
    make_dataset: Callable[..., Any], config: dict[str, Any], entries: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = all_kinds(250, seed=2)
    assert 150 < rows.num_rows < 750
    one = make_dataset(rows, config, to="one")
    monkeypatch.setattr(near_duplicates, "ENTRIES_EACH", entries)
    monkeypatch.setattr(near_duplicates, "TEXT_BYTES", 2000)
    monkeypatch.setattr(row_decisions, "ROWS_EACH", 60)
    monkeypatch.setattr(row_decisions, "KEYS_EACH", 90)
    # Nothing fits into a worker's memory: the engine joins.
    monkeypatch.setattr(staging, "LOOKUP_ROWS", 0)
    monkeypatch.setattr(lookup, "LOOKUP_ROWS", 0)
    assert_same(one, make_dataset(rows, config, to="parts", files=2))


SORTING = """
from modelmill.settings import Settings
from modelmill.spark import session

with session(Settings.from_environment()) as spark:
    rows = spark.range(200_000).selectExpr("repeat(cast(id as string), 40) as text")
    rows.groupBy("text").count().collect()
"""


def test_an_engine_whose_memory_is_full_says_what_to_raise(tmp_path: Path) -> None:
    (tmp_path / "sorting.py").write_text(SORTING)
    environment = os.environ | {"SAIL_RUNTIME__MEMORY_POOL__FAIR__MAX_SIZE": "2000000"}
    ended = None
    for _ in range(3):  # of a hundred queries whose memory is full Sail 0.7.2 never ends one
        with contextlib.suppress(subprocess.TimeoutExpired):
            ended = subprocess.run(
                [sys.executable, tmp_path / "sorting.py"],
                env=environment,
                capture_output=True,
                text=True,
                check=False,
                timeout=60,
            )
            break
    assert ended is not None
    last = ended.stderr.strip().splitlines()[-1]
    assert last.startswith("modelmill.errors.ConfigError: the embedded Spark engine must have memory")
    assert "pool_size: 1953.1 KB" in last
    assert "raise SAIL_RUNTIME__MEMORY_POOL__FAIR__MAX_SIZE" in last


ODD = {
    "text": "a.text",
    "topic": "to`pic",
    "team": "te am",
    "about": "à propos",
    "id": "the.id",
    "stars": "stars.",
}


def renamed(config: Any) -> Any:
    """A configuration with odd names of columns."""
    if isinstance(config, dict):
        return {
            ODD.get(name, name) if name != "text" else name: renamed(value) for name, value in config.items()
        }
    if isinstance(config, list):
        return [renamed(value) for value in config]
    return ODD.get(config, config) if isinstance(config, str) else config


@pytest.mark.parametrize(
    "config", [BY_KEY, BY_CONTENT, renamed(BY_KEY)], ids=["by_key", "by_content", "odd_names"]
)
def test_an_incremental_night_gives_what_a_full_build_gives(
    make_dataset: Callable[..., Any], tmp_path: Path, config: dict[str, Any]
) -> None:
    rows = all_kinds(500, seed=6)
    if config is not BY_KEY and config is not BY_CONTENT:
        rows = rows.rename_columns([ODD.get(name, name) for name in rows.column_names])
    source, key = str(tmp_path / "source"), rows.column_names[0]
    feed = {"delta.enableChangeDataFeed": "true"}
    write_deltalake(source, rows.slice(0, 420), configuration=feed)
    make_dataset(source, config, to="night")
    write_deltalake(source, rows.slice(420, 50), mode="append")
    DeltaTable(source).delete(f"\"{key}\" in ('r7', 'r100', 'r250', 'r400', 'r401')")
    DeltaTable(source).update(predicate=f"\"{key}\" = 'r50'", updates={"small": "NULL"})
    lines: list[str] = []
    request = BuildDatasetRequest(
        table=TableRef(uri=source, version=DeltaTable(source).version()),
        options=BuildOptions.model_validate(config),
        to=str(tmp_path / "night"),
        transaction="night",
    )
    version = update(request, log=lines.append)
    assert version == 1, lines
    night = make_dataset(source, config, to="night", transaction="night")
    assert night.build.mode == "incremental"
    assert_same(make_dataset(source, config, to="full"), night)


def test_the_number_of_partitions_of_the_engine_does_not_matter(
    make_dataset: Callable[..., Any], tmp_path: Path
) -> None:
    here = make_dataset(all_kinds(300, seed=3), BY_KEY, to="here", files=2)
    for parallelism in ("1", "7", "8"):
        request = BuildDatasetRequest(
            table=TableRef(uri=here.build.source, version=1),
            options=BuildOptions.model_validate(BY_KEY),
            to=str(tmp_path / parallelism),
        )
        done = subprocess.run(
            [sys.executable, "-m", "modelmill_jobs.build_dataset", "--request", request.model_dump_json()],
            env={**os.environ, "SAIL_EXECUTION__DEFAULT_PARALLELISM": parallelism},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        build = Build.model_validate(json.loads(done.stdout)["build"])
        assert build.summary == here.build.summary
        assert build.fates == here.build.fates


@pytest.mark.jvm
@CONFIGS
def test_a_jvm_spark_makes_the_same_dataset(
    make_dataset: Callable[..., Any], jvm: Any, config: dict[str, Any]
) -> None:
    rows = all_kinds(250, seed=4)
    one = make_dataset(rows, config, to="embedded", files=2)
    assert_same(one, make_dataset(rows, config, to="jvm", files=2, spark=jvm))


@pytest.mark.jvm
def test_a_jvm_spark_joins_many_small_parts_alike(
    make_dataset: Callable[..., Any], jvm: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = all_kinds(120, seed=5)
    one = make_dataset(rows, BY_KEY, to="embedded")
    monkeypatch.setattr(near_duplicates, "ENTRIES_EACH", 2000)
    monkeypatch.setattr(row_decisions, "ROWS_EACH", 60)
    monkeypatch.setattr(row_decisions, "KEYS_EACH", 90)
    monkeypatch.setattr(staging, "LOOKUP_ROWS", 0)
    monkeypatch.setattr(lookup, "LOOKUP_ROWS", 0)
    assert_same(one, make_dataset(rows, BY_KEY, to="jvm", spark=jvm))
