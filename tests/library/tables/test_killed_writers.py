"""A writer is killed, or finds a full disk, while it writes a table's first commit: the next one goes on."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from modelmill.errors import TableError, TransientError
from modelmill.registry import ledger
from modelmill.registry.ledger import Entry
from modelmill.settings import Settings
from modelmill.tables.commits import write_rows
from modelmill.tables.opening import open_table
from modelmill.tables.reading import read_arrow
from modelmill.tables.storage import table_exists
from modelmill.tables.versions import resolve_table

CHILD = """
import resource, signal, sys
import deltalake.transaction
import pyarrow as pa

make = deltalake.transaction.create_table_with_add_actions

def killed(*arguments, **options):
    # The kernel ends the process within the write of the commit, or fails the write as a full disk does.
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL if sys.argv[3] == "kill" else signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[4]), resource.RLIM_INFINITY))
    try:
        return make(*arguments, **options)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

deltalake.transaction.create_table_with_add_actions = killed
if sys.argv[1] == "rows":
    from modelmill.tables.commits import write_rows
    write_rows(sys.argv[2], pa.table({"n": [1, 2, 3]}), mode="append", transaction="t")
else:
    from modelmill.registry import ledger
    from modelmill.settings import Settings
    entry = ledger.Entry(
        action="refuse", model="m", from_version=None, to_version=None, digest="", step_key="t"
    )
    ledger.append(Settings.from_environment(), "m", lambda head: entry, step_key="t", moves_alias=False)
"""


def die(what: str, place: Path, *, how: str, size: int) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", CHILD, what, str(place), how, str(size)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize(("how", "size"), [("kill", 0), ("kill", 100), ("full", 100)])
def test_a_first_commit_that_was_never_finished_stops_nobody(tmp_path: Path, how: str, size: int) -> None:
    place = tmp_path / "table"
    child = die("rows", place, how=how, size=size)
    if how == "kill":
        assert child.returncode == -signal.SIGXFSZ
        assert [path.name for path in (place / "_delta_log").iterdir()] == ["00000000000000000000.json#1"]
    else:
        assert "TransientError: the commit must go through" in child.stderr
    assert not table_exists(str(place))
    with pytest.raises(TableError, match="readable Delta table"):
        open_table(str(place))
    version = write_rows(str(place), pa.table({"n": [1, 2, 3]}), mode="append", transaction="t")
    assert version == 0
    assert read_arrow(resolve_table(str(place))).column("n").to_pylist() == [1, 2, 3]
    write_rows(str(place), pa.table({"n": [4]}), mode="append", transaction="u")
    assert DeltaTable(str(place)).version() == 1


def test_a_ledger_whose_first_writer_was_killed_goes_on(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert die("ledger", Path(settings.ledger), how="kill", size=100).returncode == -signal.SIGXFSZ
    assert ledger.entries(settings) == []
    entry = Entry(action="refuse", model="m", from_version=None, to_version=None, digest="", step_key="t")
    row = ledger.append(settings, "m", lambda head: entry, step_key="t", moves_alias=False)
    assert row is not None
    assert ledger.entries(settings) == [row]


def test_a_table_whose_directory_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "table").write_text("a file")
    with pytest.raises((TableError, TransientError)):
        write_rows(str(tmp_path / "table"), pa.table({"n": [1]}), mode="append", transaction="t")
