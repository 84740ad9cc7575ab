"""SQLite databases that a tool makes in many steps, of which a kill must not leave half."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

from modelmill.system.disk import flush
from modelmill.system.locks import lock_of, locked

_COMPANIONS = ("", "-journal", "-wal", "-shm")


def make_database(database: Path, make: Callable[[Path], None], *, table: str) -> bool:
    """Make a SQLite database beside its place and move it there, unless it is there already.

    :param database: its file.
    :param make: makes a database at the path that it gets, and closes it.
    :param table: a table that has rows once a database has been made to its end. One without is half-made, by
        a process that died: it is moved to ``….half-made``, and made again.
    :return: whether it was made now.
    """
    if _is_made(database, table):
        return False
    database.parent.mkdir(parents=True, exist_ok=True)
    with locked(lock_of(database)):
        if _is_made(database, table):
            return False
        for left in database.parent.glob(f"{database.name}.new-*"):
            left.unlink()
        aside = database.with_name(f"{database.name}.new-{os.getpid()}")
        make(aside)
        flush(aside)
        for companion in _COMPANIONS:
            with contextlib.suppress(FileNotFoundError):
                half = Path(f"{database}{companion}")
                half.rename(f"{database}.half-made{companion}")
        aside.rename(database)
        flush(database.parent)
    return True


def _is_made(database: Path, table: str) -> bool:
    """Return whether a database is there. One that cannot be read, or is of another kind, is left alone."""
    if not database.exists():
        return False
    try:
        with contextlib.closing(sqlite3.connect(database, timeout=1)) as connection:
            tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master")}
            if table not in tables:
                return bool(tables)
            (rows,) = connection.execute(f'SELECT count(*) FROM "{table}"').fetchone()  # noqa: S608 (ours)
    except sqlite3.Error:
        return True
    return bool(rows)
