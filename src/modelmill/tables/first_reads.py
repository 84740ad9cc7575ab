"""What files of other writers hashed to when they were first read.

Delta's files never change once a commit names them, but only modelmill's own commits say what they hash to.
So the digest of every other file is remembered when it is first read, and those of the newest commits with
it, which say what is removed and what the partitions are: a file that reads differently afterwards was
damaged, or somebody has written over it. Either way the version is not the same any more.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from modelmill.errors import TableError
from modelmill.settings import Settings
from modelmill.system.digests import file_digest, keep_memory, load_memory
from modelmill.system.locks import locked
from modelmill.tables.files import commit_file
from modelmill.tables.storage import is_local

if TYPE_CHECKING:
    from deltalake import DeltaTable

MOST_REMEMBERED = 100_000
"""Files of one table whose digests are kept, the newest."""

_COMMITS = 50
"""Commits whose files are remembered beside the data files, the newest of the version."""

_seen: dict[tuple[str, int, int, int], str] = {}
"""Digest of the files that this process has hashed, by path, size, and times of change."""


def check_first_reads(table: DeltaTable, place: str, paths: Sequence[str], *, shown: str) -> None:
    """Compare files with what they were when they were first read here, and remember those that are new.

    Only for tables on a local disk: in an object store nothing rots unseen, and to hash a file there is to
    fetch all of it. The memory lies below the deployment's home; where there is none, nothing is compared.

    :param table: the table, at its version.
    :param place: as :func:`~modelmill.tables.storage.table_location` gives it.
    :param paths: files that no commit names a digest of, relative to the table's directory.
    :param shown: the table and version, for the message.
    :raises TableError: if a file is not what it was.
    :raises OSError: if a file cannot be read.
    """
    home = Settings.from_environment().home
    if not paths or not is_local(place) or not home.is_dir():
        return
    memory = home / "cache" / "first_reads" / f"{_name(table, place)}.json"
    known = load_memory(memory)
    found = {path: _digest(Path(place, path)) for path in (*paths, *_commits(table, place))}
    for path, digest in found.items():
        if known.get(path, digest) != digest:
            raise TableError(
                f"a file of the table must be as it was when it was first read ({shown})",
                got=path,
                remedy=f"restore it from a copy; if it was changed on purpose, delete {memory}",
            )
    if found.keys() - known.keys():
        _remember(memory, found)


def _name(table: DeltaTable, place: str) -> str:
    """Name the memory of a table: one that was dropped and written anew has another id."""
    return hashlib.sha256(f"{table.metadata().id}\0{place}".encode()).hexdigest()[:32]


def _commits(table: DeltaTable, place: str) -> list[str]:
    newest = table.version()
    named = map(commit_file, range(max(0, newest + 1 - _COMMITS), newest + 1))
    return [name for name in named if Path(place, name).is_file()]  # old ones are cleaned up


def _digest(path: Path) -> str:
    status = path.stat()
    key = (str(path), status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    if key not in _seen:
        _seen[key] = file_digest(path)
    return _seen[key]


def _remember(memory: Path, found: Mapping[str, str]) -> None:
    with contextlib.suppress(OSError), locked(memory.with_suffix(".lock")):  # read-only home: not remembered
        kept = list({**load_memory(memory), **found}.items())[-MOST_REMEMBERED:]
        keep_memory(memory, dict(kept))
