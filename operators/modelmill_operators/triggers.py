"""Starting pipelines when a Delta table has a new version. What waits is a coroutine, never a worker."""

from __future__ import annotations

import asyncio
import functools
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Protocol, TypeVar

from airflow.sdk.configuration import conf
from airflow.triggers.base import BaseEventTrigger, TriggerEvent
from airflow.triggers.shared_stream import AdvanceItem, SharedStreamProducer

from modelmill.errors import ConfigError
from modelmill.tables.newest_commit import Commit, newest_commit

MEMORY_KEY = "modelmill_delta_commit"
"""Under which an asset's state store has the last commit that an event was recorded for."""
POLL_SECONDS = 30.0
_MOST_SECONDS = 600.0
"""Longest time between two tries where a table cannot be read."""

_ANSI_COLOUR = re.compile(r"\x1b\[[0-9;]*m")

log = logging.getLogger(__name__)
Found = TypeVar("Found")


class DeltaTableTrigger(BaseEventTrigger):
    """Fire when a Delta table has a new version. For the watcher of an asset.

    The event's payload is ``{"uri": …, "version": 7, "timestamp": "2026-11-24T21:55:00+00:00"}``.

    What is guaranteed: the newest version is told once. It is remembered in the asset's state store after
    Airflow has recorded the event, so versions that came while no triggerer ran, or while the pipeline was
    paused, are told of when it goes on; several versions between two looks are one event, for the newest. The
    one thing that can repeat an event is a triggerer that dies in the second between recording and
    remembering; the run that it starts again finds nothing new. The first look at a table tells of the
    version that it finds. A table that is replaced by another one is a new version.

    A missing table is waited for. One that cannot be read is reported in the triggerer's log, once, and tried
    again after twice the time each, at most ten minutes.

    :param uri: absolute path or URI of the table.
    :param asset: name of the asset that it watches for; None: nothing is remembered between two lives.
    :param poll_seconds: seconds between two looks; None: the deployment's ``[modelmill] poll_seconds``.
    :raises ConfigError: if the time is not positive.
    """

    def __init__(self, *, uri: str, asset: str | None = None, poll_seconds: float | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # Airflow has no types here
        if poll_seconds is not None and not poll_seconds > 0:
            raise ConfigError("poll_seconds must be positive", got=poll_seconds, remedy="try 30")
        self.uri = uri
        self.asset = asset
        self.poll_seconds = poll_seconds

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what makes this trigger again: its class and its arguments."""
        kwargs = {"uri": self.uri, "asset": self.asset, "poll_seconds": self.poll_seconds}
        return f"{type(self).__module__}.{type(self).__qualname__}", kwargs

    def shared_stream_key(self) -> Hashable:
        """Return what tells this watch from others: only shared streams learn when an event is recorded."""
        return (self.uri, self.asset, self.poll_seconds)

    @classmethod
    def create_shared_stream_producer(cls, kwargs: dict[str, Any]) -> SharedStreamProducer:
        """Return the watch.

        :param kwargs: a trigger's arguments.
        :return: the watch, with the asset's state store as its memory.
        """
        from airflow.sdk.execution_time.context import AssetStateStoreAccessor

        trigger = cls(**kwargs)
        memory = AssetStateStoreAccessor(name=trigger.asset) if trigger.asset else None
        return trigger.watch(memory)

    async def filter_shared_stream(self, shared_stream: AsyncIterator[Any]) -> AsyncIterator[TriggerEvent]:
        """Make an event of each thing that the watch sees.

        :param shared_stream: payloads.
        :yields: events.
        """
        async for payload in shared_stream:
            yield TriggerEvent(payload)  # type: ignore[no-untyped-call] # Airflow has no types here

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Watch on its own, without memory, from the version that is there.

        :yields: events.
        """
        async for payload, _ in self.watch(None).open_stream():
            yield TriggerEvent(payload)  # type: ignore[no-untyped-call] # Airflow has no types here

    def watch(self, memory: Memory | None) -> TableWatch:
        """Return the loop that looks at the table.

        :param memory: where the last reported version is kept; None: nowhere.
        :return: the loop.
        """
        seconds = self.poll_seconds or conf.getfloat("modelmill", "poll_seconds", fallback=POLL_SECONDS)
        return TableWatch(self.uri, memory=memory, poll_seconds=seconds)


class Memory(Protocol):
    """What a watch needs of an asset's state store."""

    async def aget(self, key: str, default: Any = None) -> Any:
        """Return a value."""

    async def aset(self, key: str, value: Any) -> None:
        """Keep a value."""


class TableWatch(SharedStreamProducer):
    """Polls a table, and remembers the version that it has reported last.

    :param uri: absolute path or URI of the table.
    :param memory: where the last reported version is kept; None: nowhere.
    :param poll_seconds: seconds between two looks.
    """

    def __init__(self, uri: str, *, memory: Memory | None, poll_seconds: float) -> None:
        self.uri = uri
        self.memory = memory
        self.poll_seconds = poll_seconds
        self._in_trouble = False

    async def open_stream(self) -> AsyncIterator[tuple[dict[str, Any], Commit]]:
        """Look until cancelled.

        :yields: payload of an event, and the commit to remember once the event is recorded.
        """
        known = await self._patiently(self._recall)
        waiting = False
        while True:
            look = functools.partial(asyncio.to_thread, newest_commit, self.uri, known=known)
            newest = await self._patiently(look)
            if newest is None and not waiting:
                log.info("waiting for a table at %s", self.uri)
            waiting = newest is None
            if newest is not None and newest != known:
                known = newest
                yield self._payload(newest), newest
            await asyncio.sleep(self.poll_seconds)

    async def advance(self, batch: Sequence[AdvanceItem]) -> None:
        """Remember what Airflow has recorded.

        :param batch: commits in their order, with what became of their events.
        """
        recorded = [item.broker_payload for item in batch if item.outcome.is_clean]
        memory = self.memory
        if recorded and memory is not None:
            await self._patiently(lambda: memory.aset(MEMORY_KEY, asdict(recorded[-1])))

    async def _recall(self) -> Commit | None:
        kept = await self.memory.aget(MEMORY_KEY) if self.memory else None
        return Commit(**kept) if kept else None

    async def _patiently(self, call: Callable[[], Awaitable[Found]]) -> Found:
        """Call until it goes through; say once that it does not, and that it does again."""
        delay = self.poll_seconds
        while True:
            try:
                found = await call()
            except Exception as error:  # a trigger that ends is started again at once, and fails again
                if not self._in_trouble:
                    log.warning("%s cannot be watched, and is tried again: %s", self.uri, _line(error))
                self._in_trouble = True
                await asyncio.sleep(delay)
                delay = min(2 * delay, max(_MOST_SECONDS, self.poll_seconds))
            else:
                if self._in_trouble:
                    log.info("%s is watched again", self.uri)
                self._in_trouble = False
                return found

    def _payload(self, commit: Commit) -> dict[str, Any]:
        timestamp = datetime.fromtimestamp(commit.modified, UTC).isoformat()
        return {"uri": self.uri, "version": commit.version, "timestamp": timestamp}


def _line(error: Exception) -> str:
    """Return what an error says in one line: delta-rs adds colours, and a stack of its own."""
    text = _ANSI_COLOUR.sub("", str(error)).partition("\n   0: ")[0]
    return " ".join(text.split())[:300] or type(error).__name__
