"""``modelmill gc``: what killed processes have left behind, and what is older than the policy keeps it."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from modelmill.errors import ConfigError
from modelmill.settings import Settings
from modelmill.system.locks import is_held, locked

_DAY = 86_400


@dataclass(frozen=True)
class Leftover:
    """Something that nobody needs any more."""

    path: Path | str
    """A path, or what it is."""
    size: int
    """In bytes; 0 if it lies in a store."""
    why: str
    remove: Callable[[], bool]
    """Returns False if somebody has come for it meanwhile, or may not remove it."""


def gc(
    *,
    apply: Annotated[bool, typer.Option("--apply", help="Remove it; without, it is only listed.")] = False,
    table: Annotated[
        list[str] | None, typer.Option(help="Delta table in which dead writers may have staged files.")
    ] = None,
    days: Annotated[
        float, typer.Option(min=1, help="Days after which staged files and checkpoints are given up.")
    ] = 7,
    cache_days: Annotated[
        float | None,
        typer.Option(
            min=2,
            envvar="MODELMILL_CACHE_DAYS",
            help="Also what the cache has that nobody has used for so many days: it is made again.",
        ),
    ] = None,
    run_days: Annotated[
        float | None,
        typer.Option(
            min=2,
            envvar="MODELMILL_RUN_DAYS",
            help="Also runs in MLflow, with their models, that nobody has reused for so many days, and that "
            "nothing needs which stays.",
        ),
    ] = None,
    version_days: Annotated[
        float | None,
        typer.Option(
            min=2,
            envvar="MODELMILL_VERSION_DAYS",
            help="With --run-days: also registered versions that are older, were no champion since, and that "
            "neither an alias, a rollback nor a gate needs. Without, all stay.",
        ),
    ] = None,
    table_days: Annotated[
        float | None,
        typer.Option(
            min=2,
            envvar="MODELMILL_TABLE_DAYS",
            help="Of each --table also the files that it needed only so many days ago: no version since, and "
            "none that a run or a model which stays names.",
        ),
    ] = None,
) -> None:
    """List what killed processes have left behind, and why it can go; --apply removes it.

    With days it also lists what is older, and why the rest stays.
    """
    found, settings = [], Settings.from_environment()
    if version_days is not None and run_days is None:
        raise ConfigError("--version-days goes with --run-days", got=version_days, remedy="give both")
    if apply and run_days is not None:
        from modelmill.cli.old_results import mark_all_dead_runs

        for run in mark_all_dead_runs(settings):
            typer.echo(f"run {run} is marked KILLED: its process died")
    for one in _everything(settings, table or [], Days(days, cache_days, run_days, version_days, table_days)):
        done = "would remove"
        if apply:
            done = "removed" if one.remove() else "could not remove"
        if done != "could not remove":
            found.append(one)
        typer.echo(f"{done} {one.path} ({one.size / 1e6:,.1f} MB): {one.why}")
    total = sum(one.size for one in found) / 1e6
    typer.echo(
        f"{len(found)} leftovers, {total:,.1f} MB" + ("" if apply or not found else "; --apply removes them")
    )


@dataclass(frozen=True)
class Days:
    """How long things are kept; None: for ever."""

    staged: float
    cache: float | None
    runs: float | None
    versions: float | None
    tables: float | None


def _everything(settings: Settings, tables: list[str], days: Days) -> Iterator[Leftover]:
    yield from leftovers(settings, tables=tables, days=days.staged)
    if days.cache is not None:
        yield from _unused(settings, days.cache)
    if days.runs is not None or (days.tables is not None and tables):
        from modelmill.cli.old_results import old_results

        for one in old_results(
            settings, run_days=days.runs, version_days=days.versions, table_days=days.tables, tables=tables
        ):
            yield Leftover(one.what, one.size, one.why, one.remove)


def leftovers(settings: Settings, *, tables: list[str], days: float) -> Iterator[Leftover]:
    """Find what killed processes have left behind; nothing that a live process holds.

    :param settings: where things are kept.
    :param tables: tables on a local disk in which staged files are looked for.
    :param days: days without a change after which checkpoints of steps and staged files are given up.
    :yield: what can go.
    :raises TableError: see :func:`~modelmill.tables.staged_leftovers.staged_leftovers`.
    """
    yield from _abandoned_folders(settings)
    yield from _old_steps(settings.home / "steps", days)
    if tables:
        from modelmill.tables.staged_leftovers import remove_leftover, staged_leftovers

        for table in tables:
            for one in staged_leftovers(table, days=days):
                why = f"no commit of {table} names it, and it has not changed for {one.days:.0f} days"
                yield Leftover(one.path, one.size, why, partial(remove_leftover, one))


def _unused(settings: Settings, days: float) -> Iterator[Leftover]:
    from modelmill.system.unused import remove_unused, unused

    for one in unused(settings.cache, days=days):
        why = f"nobody has used it for {one.days:.0f} days, and it can be made again"
        yield Leftover(one.path, one.size, why, partial(remove_unused, one, days=days))


def _abandoned_folders(settings: Settings) -> Iterator[Leftover]:
    from modelmill.system.scratch import abandoned, remove_abandoned

    # Others keep temporary files there, too, and may have one that is called like a lock.
    for parent, prefix in ((Path(tempfile.gettempdir()), "modelmill-"), (settings.cache / "models", ".")):
        for folder in abandoned(parent, prefix=prefix):
            why = "its process has died"
            yield Leftover(folder, _size(folder), why, partial(remove_abandoned, folder))


def _old_steps(steps: Path, days: float) -> Iterator[Leftover]:
    """Find work directories with checkpoints of a dead attempt that no other attempt has come for."""
    for folder in sorted(steps.iterdir()) if steps.is_dir() else []:
        age = _idle_days(folder)
        if age >= days and is_held(folder / "lock") is False:
            why = f"the step's last attempt failed {age:.0f} days ago, and none has come since"
            yield Leftover(folder, _size(folder), why, partial(_clear_step, folder, days))


def _idle_days(folder: Path) -> float:
    """Return the days since the last change in a work directory; 0 if there is nothing in it."""
    states = _states(path for path in folder.rglob("*") if path.name != "lock")
    return (time.time() - max((state.st_mtime for state in states), default=time.time())) / _DAY


def _clear_step(folder: Path, days: float) -> bool:
    """Remove what is in a work directory, unless an attempt has come for it since it was listed."""
    if is_held(folder / "lock"):
        return False  # to wait for it would be to remove what it is about to leave
    with locked(folder / "lock"):
        if _idle_days(folder) < days:
            return False
        for path in folder.iterdir():
            if path.name != "lock":
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    return True


def _size(folder: Path) -> int:
    return sum(state.st_size for state in _states(folder.rglob("*")) if stat.S_ISREG(state.st_mode))


def _states(paths: Iterable[Path]) -> Iterator[os.stat_result]:
    for path in paths:
        with contextlib.suppress(FileNotFoundError):  # who holds a folder works in it
            yield path.lstat()
