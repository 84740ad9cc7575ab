"""Builds of datasets at their edges: odd names, places that cannot be written, builds that are killed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from modelmill.artifacts import TableRef
from modelmill.datasets.options import BuildOptions
from modelmill.datasets.request import BuildDatasetRequest
from modelmill.errors import TableError
from modelmill.tables import commits
from modelmill.tables.storage import table_exists

BY_HASH = {"key": "id", "text": "text", "labels": ["topic"], "split": {"validation": 0.1, "test": 0.2}}
FEED = {"delta.enableChangeDataFeed": "true"}
DAY = 24 * 3600


def some_rows(count: int, *, start: int = 0, seed: int = 0) -> pa.Table:
    """Rows of which some have copies and near copies."""
    random_ = random.Random(seed)
    words = [f"word{number}" for number in range(500)]
    texts: list[str] = []
    for _ in range(count):
        text = random_.choices(words, k=25)
        if texts and random_.random() < 0.1:
            text = random_.choice(texts).split()
            text[random_.randrange(25)] = random_.choice(words)
        texts.append(" ".join(text))
    return pa.table(
        {
            "id": [f"k{start + number}" for number in range(count)],
            "text": texts,
            "topic": ["xy"[number % 2] for number in range(count)],
        }
    )


def with_feed(place: Path, rows: pa.Table) -> str:
    write_deltalake(str(place), rows, configuration=FEED)
    return str(place)


def tree(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


ODD_NAMES = [
    {"id": "the id", "text": "a.b", "topic": "to`pic", "team": "équipe №1", "note": "a b.c`d"},
    {"id": "id", "text": "Text.body", "topic": "label.", "team": ".team", "note": "名前"},
    {"id": "count", "text": "sum(x)", "topic": "select", "team": "a,b;c", "note": "quo\"te's"},
    {"id": "source", "text": "source.text", "topic": "source_text", "team": "one", "note": "other"},
]


@pytest.mark.parametrize("names", ODD_NAMES, ids=lambda names: names["text"])
def test_columns_may_have_any_name(make_dataset: Callable[..., Any], names: dict[str, str]) -> None:
    rows = some_rows(120)
    rows = rows.append_column("team", pa.array([f"t{n // 3}" for n in range(120)]))
    rows = rows.append_column("note", pa.array([n if n % 10 else None for n in range(120)], pa.int64()))
    plain = make_dataset(
        rows,
        BY_HASH | {"split": {"group": "team"}, "keep": ["note"], "contract": {"note": {"required": True}}},
        to="plain",
    )
    config = {"key": names["id"], "text": names["text"], "labels": [names["topic"]]}
    config |= {"split": {"group": names["team"]}, "keep": [names["note"]]}
    config |= {"contract": {names["note"]: {"required": True}}}
    odd = make_dataset(rows.rename_columns([names[name] for name in rows.column_names]), config, to="odd")
    assert odd.splits == plain.splits
    assert odd.build.fates.states == plain.build.fates.states != {}
    assert odd.build.fates.reasons == {f"{names['note']}: null is refused": 12}
    assert odd.dataset.column_names == ["example_key", names["text"], names["topic"], "split", names["note"]]
    assert odd.dataset[names["note"]].to_pylist() == plain.dataset["note"].to_pylist()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_place_that_may_not_be_written_is_said(make_dataset: Callable[..., Any], tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    with pytest.raises(TableError, match="writ"):
        make_dataset(some_rows(50), BY_HASH, to="locked/dataset")
    assert not list(locked.iterdir())


@pytest.mark.parametrize("to", ["/proc/dataset", "{folder}/file/dataset", "{folder}/file"])
def test_a_place_that_cannot_be_made_is_said(
    make_dataset: Callable[..., Any], tmp_path: Path, to: str
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TableError, match="writ") as caught:
        make_dataset(some_rows(50), BY_HASH, to=to.format(folder=tmp_path))
    assert "\n" not in str(caught.value)
    assert tree(tmp_path) & {"file", "file_quarantine"} == {"file"}


def test_a_build_that_is_refused_leaves_an_older_dataset_as_it_was(
    make_dataset: Callable[..., Any], tmp_path: Path
) -> None:
    made = make_dataset(with_feed(tmp_path / "source", some_rows(100)), BY_HASH)
    before = tree(tmp_path / "dataset") | tree(tmp_path / "dataset_quarantine")
    alone = some_rows(100).set_column(2, "topic", pa.array(["x"] * 100))
    with pytest.raises(Exception, match="two classes or more"):
        make_dataset(alone, BY_HASH, transaction="refused")
    assert DeltaTable(made.place).version() == made.version
    assert tree(tmp_path / "dataset") | tree(tmp_path / "dataset_quarantine") == before


def test_a_retry_after_the_commit_gives_the_same_version(make_dataset: Callable[..., Any]) -> None:
    one = make_dataset(some_rows(100), BY_HASH, transaction="t")
    make_dataset(some_rows(120), BY_HASH, transaction="later")
    again = make_dataset(some_rows(130), BY_HASH, transaction="t")
    assert (again.version, again.build) == (one.version, one.build)
    assert DeltaTable(one.place).version() == 1


def test_a_build_that_is_interrupted_after_its_commit_leaves_it_whole(
    make_dataset: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    source = with_feed(tmp_path / "source", some_rows(100))

    def interrupted(place: str) -> None:
        if place == str(tmp_path / "dataset"):
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(commits, "sync_log", interrupted)
        with pytest.raises(KeyboardInterrupt):
            make_dataset(source, BY_HASH, transaction="t")
    again = make_dataset(source, BY_HASH, transaction="t")
    assert again.version == 0
    assert again.dataset == make_dataset(source, BY_HASH, to="undisturbed").dataset


# A process that kills itself where a build has just finished one of its pieces.
KILLED = """
import os, signal, sys
from modelmill.datasets.request import BuildDatasetRequest
from modelmill.jobs import run_as_application
from modelmill_jobs import build_dataset, staging

after = sys.argv.pop(1)
write, commit = staging.Stage.write, build_dataset.commit_files

def write_and_die(self, rows, name):
    write(self, rows, name)
    if name == after:
        os.kill(os.getpid(), signal.SIGKILL)
    return self.read(name, rows.schema)

def die_or_commit(*args, **more):
    if after == "before the commit":
        os.kill(os.getpid(), signal.SIGKILL)
    version = commit(*args, **more)
    os.kill(os.getpid(), signal.SIGKILL)

staging.Stage.write = write_and_die
build_dataset.commit_files = die_or_commit
run_as_application(BuildDatasetRequest, build_dataset.main)
"""


def arguments(source: str, folder: Path, *, transaction: str) -> list[str]:
    request = BuildDatasetRequest(
        table=TableRef(uri=source, version=DeltaTable(source).version()),
        options=BuildOptions.model_validate(BY_HASH),
        to=str(folder / "dataset"),
        transaction=transaction,
    )
    return ["--request", request.model_dump_json()]


def killed(source: str, folder: Path, after: str, *, transaction: str) -> None:
    """Build, and die by SIGKILL at some point."""
    script = folder / "killed.py"
    script.write_text(KILLED)
    argv = [sys.executable, str(script), after, *arguments(source, folder, transaction=transaction)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr[-2000:]


@pytest.mark.parametrize("after", ["rows", "decisions", "before the commit", "after the commit"])
def test_a_killed_build_is_simply_done_again(
    make_dataset: Callable[..., Any], tmp_path: Path, after: str
) -> None:
    source = with_feed(tmp_path / "source", some_rows(150))
    killed(source, tmp_path, after, transaction="t")
    place = tmp_path / "dataset"
    left = tree(place)
    assert any(name.startswith("_index/") for name in left)
    assert table_exists(str(place)) == (after == "after the commit")
    made = make_dataset(source, BY_HASH, transaction="t")
    assert made.version == 0
    undisturbed = make_dataset(source, BY_HASH, to="undisturbed")
    assert made.build.summary == undisturbed.build.summary
    assert made.build.fates == undisturbed.build.fates
    assert made.dataset == undisturbed.dataset
    assert made.quarantine == undisturbed.quarantine


def age(folder: Path, seconds: float) -> None:
    for path in [folder, *folder.rglob("*")]:
        os.utime(path, (time.time() - seconds,) * 2)


def test_leftovers_of_killed_builds_go_after_a_day(make_dataset: Callable[..., Any], tmp_path: Path) -> None:
    source = with_feed(tmp_path / "source", some_rows(150))
    killed(source, tmp_path, "decisions", transaction="t")
    index = tmp_path / "dataset/_index"
    (dead,) = index.iterdir()
    first = make_dataset(source, BY_HASH, transaction="one")
    assert dead.exists(), "it could belong to a build that is still at work"
    age(index, 2 * DAY)
    write_deltalake(source, some_rows(1, start=5000, seed=9), mode="append")
    second = make_dataset(source, BY_HASH, transaction="two")
    used = {file.path.split("/")[1] for file in (*second.build.index, *second.build.decisions)}
    assert {path.name for path in index.iterdir()} == used
    assert used.isdisjoint(file.path.split("/")[1] for file in first.build.index)
    assert second.dataset.num_rows > 100


def test_only_what_the_next_night_needs_is_left(make_dataset: Callable[..., Any], tmp_path: Path) -> None:
    made = make_dataset(with_feed(tmp_path / "source", some_rows(150)), BY_HASH)
    left = {str(path.relative_to(made.place)) for path in (Path(made.place) / "_index").rglob("*.parquet")}
    assert left == {file.path for file in (*made.build.index, *made.build.decisions)}
    plain = make_dataset(some_rows(150), BY_HASH, to="plain")
    assert plain.build.index == ()
    assert not list((Path(plain.place) / "_index").glob("*"))


def test_two_builds_at_once_do_not_disturb_each_other(
    make_dataset: Callable[..., Any], tmp_path: Path
) -> None:
    source = with_feed(tmp_path / "source", some_rows(150))
    argv = [sys.executable, "-m", "modelmill_jobs.build_dataset"]
    argv += arguments(source, tmp_path, transaction="same")
    both = [subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(2)]
    answers = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], answers
    assert DeltaTable(str(tmp_path / "dataset")).version() == 0
    made = make_dataset(source, BY_HASH, transaction="same")
    assert made.dataset == make_dataset(source, BY_HASH, to="alone").dataset
