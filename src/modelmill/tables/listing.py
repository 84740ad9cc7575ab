"""The Delta tables below a folder: what a form offers before anybody knows a table's name."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from pathlib import Path

from modelmill.tables.storage import is_local, table_files, table_location

_LOG = "_delta_log"
_MOST_TABLES = 500
_MOST_FOLDERS = 2000
_DEEPEST = 4
"""Folders on the way to a table: deeper ones are not looked for."""


@dataclass(frozen=True)
class TableListing:
    """Tables below a folder."""

    names: tuple[str, ...]
    """Paths relative to the folder, sorted; empty for the folder itself."""
    is_complete: bool
    """Whether every folder was looked into."""


def list_tables(root: str) -> TableListing:
    """Find the Delta tables below a folder, near ones first.

    It looks into at most 2,000 folders and four levels deep, not into tables, and it follows no links.
    Folders whose names begin with a dot or an underscore hold no tables.

    :param root: path or URI of the folder; one that does not exist holds no tables.
    :return: the tables.
    :raises OSError: if the folder cannot be listed.
    """
    from pyarrow.fs import FileSelector, FileType

    place = table_location(root)
    if is_local(place) and not Path(place).is_dir():
        return TableListing((), is_complete=True)
    files = table_files(place)
    found: list[str] = []
    waiting, looked, is_complete = deque([""]), 0, True
    while waiting:
        if looked == _MOST_FOLDERS or len(found) == _MOST_TABLES:
            is_complete = False
            break
        folder, looked = waiting.popleft(), looked + 1
        inside = files.get_file_info(FileSelector(folder, allow_not_found=True))
        names = [info.base_name for info in inside if info.type == FileType.Directory]
        if _LOG in names:
            found.append(folder)
            continue
        paths = [f"{folder}/{name}".lstrip("/") for name in names if name[0] not in "._"]
        if is_local(place):
            paths = [path for path in paths if not Path(place, path).is_symlink()]
        if folder.count("/") + bool(folder) < _DEEPEST:
            waiting.extend(sorted(paths))
        elif paths:
            is_complete = False
    return TableListing(tuple(sorted(found)), is_complete=is_complete)
