"""Deaths of a process at each of its external effects, in one process and repeatable.

:class:`CrashPoints` counts what changes the world outside: a commit of a Delta table, a write to MLflow's
database, a file that is written, renamed, flushed or removed. A death raises :class:`Died` before one of
them, or after it and before its answer, and from then on nothing gets out, as from a process that is gone:
what ``finally`` and ``except BaseException`` would do in Python is refused too. ``benchmarks/kills.py`` kills
real processes; here thousands of cases take the time of one of theirs.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

from deltalake import DeltaTable
from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore as VersionStore
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore as RunStore

_RUNS = (
    "create_run",
    "update_run_info",
    "delete_run",
    "log_param",
    "log_metric",
    "log_batch",
    "set_tag",
    "create_logged_model",
    "finalize_logged_model",
    "set_logged_model_tags",
    "delete_logged_model",
    "_hard_delete_run",
    "_hard_delete_logged_model",
    "log_outputs",
    "log_inputs",
)
_VERSIONS = (
    "create_registered_model",
    "create_model_version",
    "delete_model_version",
    "update_model_version",
    "set_model_version_tag",
    "set_registered_model_tag",
    "set_registered_model_alias",
    "delete_registered_model_alias",
)
_AUDITED = frozenset({"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.symlink"})


class Died(BaseException):
    """Stands for ``kill -9``: nothing that the code under test has may catch it and go on."""


class CrashPoints:
    """Counts external effects, and dies at one of them."""

    def __init__(self) -> None:
        self.count = 0
        self.dead = False
        self.place = ""
        """Where it died."""
        self._at: int | None = None
        self._kinds: tuple[str, ...] = ()
        self._thread = 0
        self._watching = False
        self._inside = False

    @contextlib.contextmanager
    def life(self, at: int | None = None, *, kinds: tuple[str, ...] = ("",)) -> Iterator[None]:
        """Run a process until it ends or dies.

        :param at: dies at this position; each effect has one before it, and all but those of
            files one after it. None: never.
        :param kinds: only effects count whose name begins with one of these.
        :yield: while it lives.
        :raises Died: when it dies.
        """
        self.count, self.dead, self._at, self._kinds = 0, False, at, kinds
        # Threads of libraries would make a seed end in another way each time.
        self._watching, self._thread = True, threading.get_ident()
        try:
            yield
        finally:
            self._watching = False

    def before(self, name: str) -> None:
        """Note an effect that is about to happen."""
        if not self._is_ours():
            return
        if self.dead:
            raise Died(name)
        if name.startswith(self._kinds):
            self._meet(f"before {name}")

    def after(self, name: str) -> None:
        """Note an effect that has happened, and whose answer is under way."""
        if self._is_ours() and not self.dead and name.startswith(self._kinds):
            self._meet(f"after {name}")

    def _is_ours(self) -> bool:
        return self._watching and self._thread == threading.get_ident()

    def _meet(self, where: str) -> None:
        position, self.count = self.count, self.count + 1
        if position == self._at:
            self.dead, self.place = True, where
            raise Died(where)

    def wrapped(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that counts as an effect."""

        @functools.wraps(call)
        def counted(*args: Any, **kwargs: Any) -> Any:
            if self._inside:  # an effect that another one is made of
                return call(*args, **kwargs)
            self.before(name)
            self._inside = True
            try:
                result = call(*args, **kwargs)
            finally:
                self._inside = False
            self.after(name)
            return result

        return counted

    def audit(self, event: str, args: tuple[Any, ...]) -> None:
        """Take what Python tells of files. Nothing tells that it is done: these have no position after."""
        if self._inside or not self._is_ours():
            return
        written = event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR)
        if written or event in _AUDITED:
            self.before(event)


@contextlib.contextmanager
def crash_points() -> Iterator[CrashPoints]:
    """Wrap what changes the world outside, in this process.

    :yield: the crash points.
    """
    points = CrashPoints()
    with contextlib.ExitStack() as stack:
        for owner, names in ((RunStore, _RUNS), (VersionStore, _VERSIONS)):
            for name in names:
                counted = points.wrapped(f"mlflow {name}", getattr(owner, name))
                stack.enter_context(mock.patch.object(owner, name, counted))
        commit = points.wrapped("delta commit", DeltaTable.create_write_transaction)
        stack.enter_context(mock.patch.object(DeltaTable, "create_write_transaction", commit))
        make = "deltalake.transaction.create_table_with_add_actions"
        from deltalake import transaction

        made = points.wrapped("delta create", transaction.create_table_with_add_actions)
        stack.enter_context(mock.patch(make, made))
        stack.enter_context(mock.patch("os.fsync", points.wrapped("fsync", os.fsync)))
        _listen(points)
        stack.callback(_heard.remove, points)
        yield points


_heard: list[CrashPoints] = []
"""Who listens to audit events: Python cannot remove a hook."""
_hooked = False


def _listen(points: CrashPoints) -> None:
    global _hooked
    _heard.append(points)
    if not _hooked:
        sys.addaudithook(_tell)
        _hooked = True


def _tell(event: str, args: tuple[Any, ...]) -> None:
    for points in _heard:
        points.audit(event, args)
