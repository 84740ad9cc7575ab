"""Compiling many expressions into one automaton of Vectorscan, once for all processes of a machine.

Ten thousand phrases take half a minute to compile and a millisecond to load, so what took long is kept in
modelmill's cache. A file's name is made of digests of the expressions and of the content. Vectorscan refuses
a file of another version or another kind of CPU: then it is compiled again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from modelmill.errors import ExpressionError, Problem
from modelmill.settings import Settings

_KEPT_SECONDS = 1.0
"""CPU seconds of compiling from which an automaton is kept."""


@dataclass(frozen=True)
class Expression:
    """One expression of an automaton."""

    number: int
    """What a hit is reported as; several expressions may share it."""
    name: str
    """For messages."""
    pattern: bytes
    flags: int


def compiled(expressions: Sequence[Expression]) -> Any:
    """Compile an automaton, or load it where the same one was kept.

    It is kept below the home of :class:`modelmill.settings.Settings` if that folder exists; otherwise nothing
    is written.

    :param expressions: at least one.
    :return: the ``hyperscan.Database``, for whole texts.
    :raises ExpressionError: if an expression is refused; all refused ones are listed.
    """
    import hyperscan

    folder, name = Settings.from_environment().cache / "automata", _name(expressions)
    known = _loaded(folder, name)
    if known is not None:
        return known
    begin = time.thread_time()
    try:
        made = _database(expressions)
    except hyperscan.error as error:
        raise _explained(expressions, error) from error
    if time.thread_time() - begin >= _KEPT_SECONDS:
        _keep(made, folder, name)
    return made


def _name(expressions: Sequence[Expression]) -> str:
    # A later release might give other automata for the same expressions.
    whole = [version("hyperscan"), [[one.number, one.pattern.hex(), one.flags] for one in expressions]]
    return hashlib.sha256(json.dumps(whole).encode()).hexdigest()[:32]


def _loaded(folder: Path, name: str) -> Any | None:
    import hyperscan

    with contextlib.suppress(OSError, hyperscan.error):
        for path in folder.glob(f"{name}-*"):
            content = path.read_bytes()
            if path.name == _named(name, content) and _is_own(folder) and _is_own(path):
                found = hyperscan.loadb(content, hyperscan.HS_MODE_BLOCK)
                found.scratch = hyperscan.Scratch(found)
                return found
    return None


def _named(name: str, content: bytes) -> str:
    """Return a file's name, with a digest of its content: a damaged file is not read."""
    return f"{name}-{hashlib.sha256(content).hexdigest()[:32]}"


def _is_own(path: Path) -> bool:
    """Return whether only this user can write there: a loaded automaton is executed, not only read."""
    about = path.stat()
    return about.st_uid == os.getuid() and not about.st_mode & 0o022


def _keep(database: Any, folder: Path, name: str) -> None:
    import hyperscan

    home = folder.parents[1]
    with contextlib.suppress(OSError):  # the next process compiles it again
        if not home.is_dir():
            return
        folder.mkdir(parents=True, exist_ok=True, mode=0o755)
        content = hyperscan.dumpb(database)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".", delete=False) as draft:
            try:
                draft.write(content)
                Path(draft.name).replace(folder / _named(name, content))
            except OSError:
                Path(draft.name).unlink()


def _database(expressions: Sequence[Expression]) -> Any:
    import hyperscan

    database = hyperscan.Database(mode=hyperscan.HS_MODE_BLOCK)
    database.compile(
        expressions=[one.pattern for one in expressions],
        ids=[one.number for one in expressions],
        flags=[one.flags for one in expressions],
    )
    return database


def _explained(expressions: Sequence[Expression], error: Exception) -> ExpressionError:
    """Return an error that names the refused expressions: the library names none, so each is tried alone.

    If each alone is accepted, together they are too large.
    """
    import hyperscan

    problems, texts = [], {}
    for one in expressions:
        try:
            _database([one])
        except hyperscan.error as reason:
            texts[one.name] = one.pattern.decode()
            problems.append(_refused(one, reason))
    if not problems:
        texts = {"": f"{len(expressions)} patterns"}
        problems = [Problem(1, 1, "", f"the patterns of a column make one automaton ({error})")]
    return ExpressionError(problems, texts=texts, what="patterns")


def _refused(one: Expression, reason: Exception) -> Problem:
    place = re.search(r"at index (\d+)", str(reason))
    column = int(place[1]) + 1 if place else 1
    return Problem(1, column, one.name, f"a pattern must be one that an automaton can hold ({reason})")
