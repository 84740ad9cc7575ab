"""What killed processes leave is found and removed; what a live one holds is not touched."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import Schema
from typer.testing import CliRunner

from modelmill.artifacts import TableRef
from modelmill.cli.gc import leftovers
from modelmill.cli.main import app
from modelmill.component import StepContext
from modelmill.errors import ConfigError, TableError
from modelmill.settings import Settings
from modelmill.system.locks import locked
from modelmill.system.scratch import scratch_folder
from modelmill.system.unused import remove_unused, unused
from modelmill.tables.commits import commit_files, write_rows
from modelmill.tables.reading import read_arrow
from modelmill.tables.staged_files import stage_rows
from modelmill.tables.staged_leftovers import remove_leftover, staged_leftovers
from modelmill.tables.versions import resolve_table

HOLDS = """
import sys, time
from pathlib import Path
from modelmill.system.scratch import scratch_folder
with scratch_folder("modelmill-verify-", parent=Path(sys.argv[1])) as folder:
    (folder / "model").write_text("x" * 1000)
    print(folder, flush=True)
    time.sleep(600)
"""


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "tmp"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    return place


def grow_old(*paths: Path, days: float) -> None:
    for path in paths:
        os.utime(path, (time.time() - days * 86_400,) * 2, follow_symlinks=False)


def gc(*options: str) -> str:
    result = CliRunner().invoke(app, ["gc", *options], catch_exceptions=False)
    assert result.exit_code == 0
    return result.output


def test_what_a_killed_process_left_goes_and_what_lives_stays(settings: Settings, temporary: Path) -> None:
    held = [
        subprocess.Popen([sys.executable, "-c", HOLDS, str(temporary)], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    dead, alive = (Path(one.stdout.readline().strip()) for one in held if one.stdout)
    held[0].send_signal(signal.SIGKILL)
    held[0].wait()
    (temporary / "modelmill-of-somebody").mkdir()
    assert "0 leftovers" in gc("--apply")  # a lock's file that is new may be about to be taken
    grow_old(*temporary.glob("*.owner"), days=1)
    said = gc()
    assert f"would remove {dead} (0.0 MB): its process has died" in said
    assert "1 leftovers" in said
    assert dead.is_dir()
    assert f"removed {dead}" in gc("--apply")
    held[1].send_signal(signal.SIGTERM)
    held[1].wait()
    for one in held:
        one.stdout.close()  # type: ignore[union-attr]
    left = {path.name for path in temporary.iterdir()}
    assert left == {"modelmill-of-somebody", alive.name, f"{alive.name}.owner"}


def test_temporary_folders_of_others_stay(settings: Settings, temporary: Path) -> None:
    ours, theirs, download = (
        temporary / "modelmill-x",
        temporary / "x",
        settings.cache / "models" / ".download-x",
    )
    for folder in (ours, theirs, download):
        folder.mkdir(parents=True)
        lock = folder.with_name(f"{folder.name}.owner")
        lock.touch()
        grow_old(lock, days=1)
    assert "2 leftovers" in gc("--apply")
    assert [folder.exists() for folder in (ours, theirs, download)] == [False, True, False]


def test_a_scratch_folder_is_gone_at_its_end(temporary: Path) -> None:
    with scratch_folder("modelmill-model-") as folder:
        assert folder.is_dir()
    assert not list(temporary.iterdir())


def test_checkpoints_that_nobody_comes_for_go(settings: Settings, temporary: Path) -> None:
    folders = [settings.home / "steps" / (digit * 64) for digit in "abc"]
    for folder in folders:
        (folder / "checkpoints").mkdir(parents=True)
        (folder / "lock").touch()
        grow_old(folder / "checkpoints", days=30)
    grow_old(folders[2] / "checkpoints", days=2)
    with locked(folders[1] / "lock"):
        said = gc("--apply")
    assert f"removed {folders[0]} (0.0 MB): the step's last attempt failed 30 days ago" in said
    assert [(folder / "checkpoints").exists() for folder in folders] == [False, True, True]
    assert (folders[0] / "lock").exists()


def test_checkpoints_that_an_attempt_has_come_for_meanwhile_stay(settings: Settings, temporary: Path) -> None:
    folder = settings.home / "steps" / ("a" * 64)
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "lock").touch()
    grow_old(folder / "checkpoints", days=30)
    (listed,) = leftovers(settings, tables=[], days=7)
    (folder / "checkpoints" / "of-a-new-attempt").touch()
    assert not listed.remove()
    assert (folder / "checkpoints" / "of-a-new-attempt").exists()
    grow_old(folder / "checkpoints", folder / "checkpoints" / "of-a-new-attempt", days=30)
    with locked(folder / "lock"):
        assert not listed.remove()
    assert listed.remove()
    assert list(folder.iterdir()) == [folder / "lock"]


def test_what_nobody_has_used_for_long_goes_from_the_cache(settings: Settings, temporary: Path) -> None:
    cache = settings.home / "cache"
    model, used, held = (cache / "models" / (digit * 64) for digit in "abc")
    for folder in (model, used, held):
        folder.mkdir(parents=True)
        (folder / "model.onnx").write_bytes(b"x" * 2_000_000)
        folder.with_name(f".{folder.name}.lock").touch()
        grow_old(folder / "model.onnx", folder, days=40)
    os.utime(used / "model.onnx", (time.time(), (used / "model.onnx").stat().st_mtime))  # read today
    logits, seen = cache / "logits" / "a.npy", cache / "first_reads" / "table.json"
    for file in (logits, seen):
        file.parent.mkdir()
        file.touch()
        grow_old(file, days=40)
    assert "0 leftovers" in gc("--apply")  # the cache is looked at only if it is asked for
    with locked(held.with_name(f".{held.name}.lock")):
        said = gc("--cache-days", "30")
        assert f"would remove {model} (2.0 MB): nobody has used it for 40 days, and it can be made" in said
        assert "2 leftovers" in said
        assert model.is_dir()
        gc("--cache-days", "30", "--apply")
    assert not model.exists()
    assert not logits.exists()
    assert all(path.exists() for path in (used, held, seen))  # what was seen of tables cannot be made again
    assert {path.name for path in (cache / "models").iterdir() if not path.name.endswith(".lock")} == {
        used.name,
        held.name,
    }


@pytest.mark.parametrize(
    ("entry", "lock"),
    [
        ("tokens/key-digest.arrow", "tokens/.key.lock"),
        ("logits/model-rows.npy", "logits/.model-rows.npy.lock"),
        ("models/digest", "models/.digest.lock"),
    ],
)
def test_what_a_step_has_locked_stays_in_the_cache(settings: Settings, entry: str, lock: str) -> None:
    path = settings.cache / entry
    path.parent.mkdir(parents=True)
    path.touch()
    grow_old(path, days=40)
    (listed,) = unused(settings.cache, days=30)
    with locked(settings.cache / lock):
        assert not list(unused(settings.cache, days=30))
        assert not remove_unused(listed, days=30)
    assert remove_unused(listed, days=30)


def test_what_is_used_after_it_was_listed_stays_in_the_cache(settings: Settings) -> None:
    model = settings.home / "cache" / "models" / ("a" * 64)
    model.mkdir(parents=True)
    (model / "model.onnx").touch()
    grow_old(model / "model.onnx", model, days=40)
    (listed,) = unused(settings.home / "cache", days=30)
    os.utime(model / "model.onnx")
    assert not remove_unused(listed, days=30)
    grow_old(model / "model.onnx", days=40)
    assert remove_unused(listed, days=30)
    assert not remove_unused(listed, days=30)


def test_staged_files_that_no_commit_names_go(settings: Settings, temporary: Path, tmp_path: Path) -> None:
    place = tmp_path / "table"
    rows = pa.table({"n": [1, 2, 3]})
    for number in range(2):
        write_rows(str(place), rows, mode="overwrite", transaction=f"t{number}")
    dead, busy = (place / stage_rows(rows, str(place)).path for _ in range(2))
    folder = place / f"part-{'0' * 32}"
    folder.mkdir()
    (folder / "1.parquet").touch()
    foreign = place / "notes.parquet"
    foreign.touch()
    old = [path for path in place.rglob("*") if path != busy]
    grow_old(*old, days=8)
    said = gc("--table", str(place), "--apply")
    assert "2 leftovers" in said
    assert f"no commit of {place} names it" in said
    assert (dead.exists(), folder.exists()) == (False, False)
    assert (busy.exists(), foreign.exists()) == (True, True)
    assert read_arrow(resolve_table(str(place), version=0)).equals(rows)  # an old version stays
    (place / "_delta_log" / f"{0:020d}.json").rename(tmp_path / "away")
    with pytest.raises(TableError):
        staged_leftovers(str(place), days=7)


def test_a_staged_file_whose_writer_comes_back_meanwhile_stays(tmp_path: Path) -> None:
    place, rows = str(tmp_path / "table"), pa.table({"a": [1]})
    write_rows(place, rows, mode="append", transaction="one")
    files = [stage_rows(rows, place) for _ in range(2)]
    for file in files:
        grow_old(tmp_path / "table" / file.path, days=8)
    listed = {one.path.name: one for one in staged_leftovers(place, days=7)}
    columns = Schema.from_arrow(rows.schema)
    commit_files(place, files[:1], schema=columns, mode="append", transaction="two")
    assert [remove_leftover(listed[file.path]) for file in files] == [False, True]
    assert read_arrow(resolve_table(place)).num_rows == 2


def test_old_runs_and_old_versions_of_tables_go_by_a_policy(
    settings: Settings, temporary: Path, tmp_path: Path, step_context: StepContext
) -> None:
    place = tmp_path / "table"
    for version in range(3):
        write_rows(str(place), pa.table({"n": [version]}), mode="overwrite", transaction=f"t{version}")
        grow_old(place / "_delta_log" / f"{version:020d}.json", days=50 - 15 * version)
    run = step_context.run
    run.finish({"table": TableRef(uri=str(place), version=0)})
    days = ("--run-days", "30", "--table-days", "30", "--table", str(place))
    said = gc(*days)
    assert "stays: 1 runs: used in the last 30 days" in said
    assert f"stays: 1 versions of {place} before 1: runs or models that stay name them" in said
    assert "only versions of the table up to 1 need it" not in said  # 30 days ago it was the newest one
    database = sqlite3.connect(settings.tracking_uri.removeprefix("sqlite:///"))
    with database:
        database.execute("update runs set end_time = end_time - 40 * 86400000")
    database.close()
    said = gc(*days)
    assert f"would remove run {run.run_id} of tests/" in said
    assert "nothing that stays needs it, and it was last used 40 days ago" in said
    assert "only versions of the table up to 0 need it" in said
    assert run.client.get_run(run.run_id).info.lifecycle_stage == "active"
    assert "2 leftovers" in gc(*days, "--apply")
    assert "0 leftovers" in gc(*days)
    assert read_arrow(resolve_table(str(place), version=1)).column("n").to_pylist() == [1]
    with pytest.raises(TableError):
        read_arrow(resolve_table(str(place), version=0))


def test_days_of_versions_need_days_of_runs(settings: Settings, temporary: Path) -> None:
    result = CliRunner().invoke(app, ["gc", "--version-days", "30"])
    assert isinstance(result.exception, ConfigError)
    assert "--version-days goes with --run-days" in str(result.exception)
