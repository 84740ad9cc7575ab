"""Incremental builds: the rows that changed are processed, and the result is that of a full build."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from modelmill.artifacts import DatasetRef, TableRef
from modelmill.datasets.build_record import Build, build_of
from modelmill.datasets.incremental import update
from modelmill.datasets.options import BuildOptions
from modelmill.datasets.request import BuildDatasetRequest
from modelmill.errors import TableError
from modelmill.tables.commits import write_rows
from modelmill.tables.reading import read_arrow
from modelmill_jobs import build_dataset

SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("text", pa.string()),
        ("topic", pa.string()),
        ("part", pa.string()),
        ("age", pa.int64()),
    ]
)
BY_HASH = {"key": "id", "text": "text", "labels": ["topic"], "contract": {"age": {"max": 90}}}
SHIPPED = {"text": "text", "labels": ["topic"], "split": {"column": "part"}, "keep": ["age"]}
WORDS = [f"word{number}" for number in range(400)]


class Nights:
    """A source that changes, a dataset that follows, and full builds to compare with."""

    def __init__(self, spark: Any, folder: Path, config: dict[str, Any]) -> None:
        self.spark, self.folder = spark, folder
        self.options = BuildOptions.model_validate(config)
        self.source, self.place = str(folder / "source"), str(folder / "dataset")
        self.lines: list[str] = []

    @property
    def table(self) -> DeltaTable:
        return DeltaTable(self.source)

    def write(self, rows: list[dict[str, Any]]) -> None:
        write_deltalake(
            self.source,
            pa.Table.from_pylist(rows, schema=SCHEMA),
            mode="append",
            configuration={"delta.enableChangeDataFeed": "true"},
        )

    def follow(self) -> int | None:
        return update(self.request("dataset", "night"), log=self.lines.append)

    def request(self, place: str, name: str) -> BuildDatasetRequest:
        version = self.table.version()
        return BuildDatasetRequest(
            table=TableRef(uri=self.source, version=version),
            options=self.options,
            to=str(self.folder / place),
            transaction=f"{name}-{version}",
        )

    def build(self, place: str = "dataset") -> Build:
        return build_dataset.main(self.request(place, place), self.spark).build

    def rows(self, place: str) -> tuple[pa.Table, list[list[dict[str, Any]]]]:
        place = str(self.folder / place)
        dataset = DatasetRef(
            uri=place,
            version=DeltaTable(place).version(),
            key="example_key",
            text="text",
            labels=("topic",),
            split="split",
        )
        others = [f"{place}_quarantine", f"{place}_duplicates"]
        refs = [TableRef(uri=other, version=DeltaTable(other).version()) for other in others]
        return read_arrow(dataset), [sorted(read_arrow(ref).to_pylist(), key=str) for ref in refs]


@pytest.fixture
def nights(sail: Any, tmp_path: Path) -> Nights:
    return Nights(sail, tmp_path, BY_HASH)


def some_rows(random_: random.Random, count: int, *, start: int) -> list[dict[str, Any]]:
    """Rows of all kinds: fresh, copies, near copies, shared keys, conflicts, refused."""
    rows: list[dict[str, Any]] = []
    for number in range(start, start + count):
        words = random_.choices(WORDS, k=30)
        row = {"id": f"k{number}", "text": " ".join(words), "topic": random_.choice("xy")}
        row |= {"part": random_.choice(["train", "train", "test"]), "age": random_.randrange(100)}
        if rows and random_.random() < 0.4:
            other = random_.choice(rows)
            kind = random_.choice(["copy", "near", "key", "row", "empty", "chain"])
            if kind == "copy":
                row["text"] = other["text"]
            elif kind in ("near", "chain"):
                near = str(other["text"]).split() or ["alone"]
                near[random_.randrange(len(near))] = random_.choice(WORDS)
                row["text"] = " ".join(near)
            elif kind == "key":
                row["id"] = other["id"]
            elif kind == "row":
                row = dict(other)
            else:
                row["text"] = " "
        rows.append(row)
    return rows


@pytest.mark.parametrize("config", [BY_HASH, SHIPPED], ids=["by_hash", "shipped"])
@pytest.mark.parametrize("seed", range(3))
def test_what_a_night_adds_changes_and_deletes_gives_what_a_full_build_gives(
    sail: Any, tmp_path: Path, config: dict[str, Any], seed: int
) -> None:
    random_ = random.Random(seed)
    nights = Nights(sail, tmp_path, config)
    first = some_rows(random_, 300, start=0)
    nights.write(first)
    assert nights.build().index
    splits: dict[str, str] = {}
    for night in range(3):
        more = some_rows(random_, 12, start=1000 * (night + 1))
        old = random_.sample(first, 6)
        more += [{**row, "id": f"{row['id']}-again"} for row in old]
        nights.write(more)
        if night > 0:
            gone = [row["id"] for row in random_.sample(first, 5)]
            nights.table.delete("id in ({})".format(", ".join(f"'{name}'" for name in gone)))
            changed = random_.choice(first)["id"]
            nights.table.update(predicate=f"id = '{changed}'", updates={"topic": "'x'"})
        version = nights.follow()
        assert version is not None, nights.lines
        build, full = build_of(nights.place, version), nights.build(f"full{night}")
        assert build.mode == "incremental"
        assert build.fates == full.fates
        assert build.summary == full.summary
        assert nights.rows("dataset")[0] == nights.rows(f"full{night}")[0]
        assert nights.rows("dataset")[1] == nights.rows(f"full{night}")[1]
        assert build.fates.rows_in == build.summary.rows + sum(build.fates.reasons.values()) + sum(
            build.fates.states.values()
        )
        now = nights.rows("dataset")[0].select(["example_key", "split"]).to_pylist()
        for row in now:
            assert splits.setdefault(row["example_key"], row["split"]) == row["split"]


def test_a_night_without_changes_makes_no_version(nights: Nights) -> None:
    nights.write(some_rows(random.Random(0), 100, start=0))
    nights.build()
    assert nights.follow() == 0
    assert DeltaTable(nights.place).version() == 0


def test_a_repeated_night_adds_nothing(nights: Nights) -> None:
    nights.write(some_rows(random.Random(0), 100, start=0))
    nights.build()
    nights.write(some_rows(random.Random(1), 5, start=500))
    assert nights.follow() == 1
    assert nights.follow() == 1


def test_rows_that_only_come_are_appended(nights: Nights) -> None:
    nights.write(some_rows(random.Random(0), 100, start=0))
    nights.build()
    before = set(DeltaTable(nights.place).file_uris())
    nights.write([{"id": "new", "text": "something else entirely", "topic": "x", "part": None, "age": 1}])
    assert nights.follow() == 1
    assert before < set(DeltaTable(nights.place).file_uris())


@pytest.mark.parametrize(
    ("break_it", "said"),
    [
        ("config", "not built in the same way"),
        ("version", "another version of modelmill built the dataset"),
        ("feed", "no change data feed"),
        ("many", "many rows have changed"),
        ("crowded", "very many texts are alike"),
        ("crowded before", "very many texts are alike"),
        ("index", "is not as it was written"),
    ],
)
def test_what_cannot_be_processed_alone_is_left_to_a_full_build(
    nights: Nights, break_it: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    nights.write(some_rows(random.Random(0), 800, start=0))
    if break_it == "version":
        monkeypatch.setattr(build_dataset, "ALGORITHM", 3)
    build = nights.build()
    more = some_rows(random.Random(1), 5, start=900)
    if break_it == "config":
        nights.options = nights.options.model_copy(update={"near_duplicates": 0.8})
    elif break_it == "feed":
        nights.table.alter.set_table_properties({"delta.enableChangeDataFeed": "false"})
    elif break_it == "many":
        more = some_rows(random.Random(1), 300, start=900)
    elif break_it == "version":
        assert build.algorithm == 3
    elif break_it.startswith("crowded"):
        same = " ".join(WORDS[:60])
        many = [
            {"id": f"c{n}", "text": f"{same} {n}", "topic": "x", "part": None, "age": 1} for n in range(150)
        ]
        more = many
        if break_it == "crowded before":
            nights.write(many[:149])
            assert nights.build().crowded
            more = many[149:]
    else:
        path = Path(nights.place, build.index[0].path)
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    nights.write(more)
    assert nights.follow() is None
    assert said in nights.lines[-1]
    assert DeltaTable(nights.place).version() == (break_it == "crowded before")


def test_boilerplate_elsewhere_is_no_hindrance(nights: Nights) -> None:
    same = " ".join(WORDS[:60])
    many = [{"id": f"c{n}", "text": f"{same} {n}", "topic": "x", "part": None, "age": 1} for n in range(150)]
    nights.write([*some_rows(random.Random(0), 100, start=0), *many])
    assert nights.build().crowded
    nights.write(some_rows(random.Random(1), 5, start=900))
    version = nights.follow()
    assert version == 1
    assert build_of(nights.place, version).summary == nights.build("full").summary


def test_changes_are_read_only_as_they_were_written(nights: Nights) -> None:
    nights.write(some_rows(random.Random(1), 60, start=0))
    nights.build()
    more = fresh_rows(5, "unmistakable")
    write_rows(nights.source, pa.Table.from_pylist(more, schema=SCHEMA), mode="append", transaction="landed")
    (file,) = [path for path in Path(nights.source).glob("part-*") if b"unmistakable" in path.read_bytes()]
    whole = file.read_bytes()
    file.write_bytes(whole.replace(b"unmistakable", b"unmistakeble"))
    before = DeltaTable(nights.place).version()
    with pytest.raises(TableError, match=f"as it was written.*{file.name}"):
        nights.follow()
    assert DeltaTable(nights.place).version() == before
    file.write_bytes(whole)
    assert nights.follow() is not None


def fresh_rows(count: int, word: str) -> list[dict[str, Any]]:
    words = [random.Random(number).choices(WORDS, k=30) for number in range(count)]
    return [
        {"id": f"f{number}", "text": " ".join([*some, word]), "topic": "x", "part": "train", "age": 3}
        for number, some in enumerate(words)
    ]


def test_a_damaged_record_of_a_build_is_refused_and_built_anew(nights: Nights) -> None:
    nights.write(some_rows(random.Random(0), 100, start=0))
    build = nights.build()
    nights.write(some_rows(random.Random(1), 3, start=1000))
    commit = Path(nights.place, "_delta_log", f"{0:020d}.json")
    whole = commit.read_text()
    dataset = nights.rows("dataset")[0]
    for right, wrong in (
        (f'"rows_in":{build.fates.rows_in}', f'"rows_in":{build.fates.rows_in + 4}'),
        (f'"hash":"{build.summary.hash}', f'"hash":"v{build.summary.hash[1:]}'),
        ('"similar_texts":', '"similar_texty":'),
        ('"crowded":[]', '"crowded":[1]'),
    ):
        assert whole.count(right) == 1
        commit.write_text(whole.replace(right, wrong))
        with pytest.raises(TableError, match="record of a dataset's build must be as it was written"):
            build_of(nights.place, 0)
        assert nights.follow() is None
        assert "the last build is damaged" in nights.lines[-1]
        assert nights.rows("dataset")[0] == dataset
    # Releases of before it had a digest are read as they are.
    commit.write_text(whole.replace('"build_sha256"', '"build_sha255"'))
    assert build_of(nights.place, 0) == build
    assert nights.follow() == 1


@pytest.mark.parametrize("table", ["dataset", "dataset_quarantine", "dataset_duplicates"])
def test_a_damaged_table_of_the_last_build_is_built_anew(nights: Nights, table: str) -> None:
    nights.write(some_rows(random.Random(0), 100, start=0))
    nights.build()
    nights.write(some_rows(random.Random(1), 3, start=1000))
    file = next((nights.folder / table).glob("part-*/*.parquet"))
    damaged = bytearray(file.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    file.write_bytes(damaged)
    assert nights.follow() is None
    assert "the last build is damaged" in nights.lines[-1]
    nights.build()
    ours, full = nights.rows("dataset"), nights.build("full") and nights.rows("full")
    assert ours == full
