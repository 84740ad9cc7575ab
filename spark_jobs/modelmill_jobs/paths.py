"""Paths as Spark's readers take them."""

from __future__ import annotations

from modelmill.errors import TableError
from modelmill.tables.storage import is_local

GLOB_CHARACTERS = frozenset("*?[]{}\\")
"""Spark's readers take every path as a pattern: a file named ``b[1].json`` would silently give no rows."""


def plain_path(path: str, *, percent: bool = False) -> str:
    """Return a path for Spark's readers, and refuse one that they would take for a pattern.

    :param path: absolute path or URI.
    :param percent: whether the engine takes ``%`` literally: a JVM Spark does, Sail decodes it.
    :return: the path, with a scheme: a cluster's default file system may be another one.
    :raises TableError: if a reader would not take it literally.
    """
    found = sorted(GLOB_CHARACTERS & set(path)) + (["%"] if "%" in path and not percent else [])
    if found:
        raise TableError(
            f"a file that Spark reads has none of {' '.join(sorted(GLOB_CHARACTERS))} % in its path",
            got=path,
            remedy="rename it",
        )
    return f"file://{path}" if is_local(path) else path
