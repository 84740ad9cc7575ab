"""Files that a writer staged in a table's directory, and died before it committed them."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from modelmill.errors import TableError
from modelmill.tables.files import commit_actions
from modelmill.tables.opening import open_table
from modelmill.tables.protocol import commit_files_of
from modelmill.tables.storage import is_local, table_location

_STAGED = re.compile(r"part-(?:[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\.parquet|[0-9a-f]{32})")
"""What modelmill stages: a file, or a folder of files that Spark has written."""


@dataclass(frozen=True)
class StagedLeftover:
    """A file or folder that no commit names."""

    path: Path
    size: int
    """In bytes."""
    days: float
    """Since the last change in it."""
    version: int
    """Of the table, up to which no commit names it."""


def staged_leftovers(uri: str, *, days: float) -> list[StagedLeftover]:
    """Find what dead writers have staged in a table's directory.

    A live writer stages files too, so only what has not changed for some time counts.

    :param uri: a table on a local disk.
    :param days: days since the last change, at least.
    :return: files and folders that no commit in the log has added or removed.
    :raises TableError: if the table cannot be read, lies in a store, or its log has been cleaned up, so that
        it no longer says which files are old versions'.
    """
    place = table_location(uri)
    if not is_local(place):
        raise TableError(
            "leftovers are looked for on a local disk", got=uri, remedy="vacuum the table where it is written"
        )
    table = open_table(place)
    versions = commit_files_of(place)
    if list(versions) != list(range(table.version() + 1)):
        raise TableError(
            "the log must have all commits since version 0 to tell leftovers from old versions",
            got=place,
            remedy="vacuum the table with the engine that cleans its log",
        )
    named = {path.partition("/")[0] for version in versions for path in _named(place, version)}
    found = []
    for path in sorted(Path(place).iterdir()):
        if _STAGED.fullmatch(path.name) and path.name not in named and not path.is_symlink():
            inside = [path, *path.rglob("*")] if path.is_dir() else [path]
            states = [one.lstat() for one in inside]
            age = (time.time() - max(state.st_mtime for state in states)) / 86_400
            if age >= days:
                size = sum(state.st_size for state, one in zip(states, inside, strict=True) if one.is_file())
                found.append(StagedLeftover(path, size, age, table.version()))
    return found


def _named(place: str, version: int) -> Iterator[str]:
    for action in commit_actions(place, version) or ():
        for kind in ("add", "remove", "cdc"):
            if kind in action:
                yield unquote(action[kind]["path"])


def remove_leftover(leftover: StagedLeftover) -> bool:
    """Remove a leftover; return whether it is gone.

    :param leftover: as :func:`staged_leftovers` found it.
    :return: False too if its writer has come back, and a commit names it now.
    :raises TableError: if such a commit cannot be read.
    """
    place = str(leftover.path.parent)
    later = [version for version in commit_files_of(place) if version > leftover.version]
    if any(path.partition("/")[0] == leftover.path.name for each in later for path in _named(place, each)):
        return False
    if leftover.path.is_dir():
        shutil.rmtree(leftover.path, ignore_errors=True)
    else:
        leftover.path.unlink(missing_ok=True)
    return not leftover.path.exists()
