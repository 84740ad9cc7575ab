"""A table's watch: each new version is told once, and nothing is lost between two lives of the triggerer."""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import structlog
from airflow.sdk import Asset, AssetWatcher
from airflow.serialization.encoders import encode_trigger
from airflow.triggers.base import TriggerEvent
from airflow.triggers.shared_stream import AdvanceItem, AdvanceOutcome, SharedStreamManager
from deltalake import write_deltalake

from modelmill.errors import ConfigError
from modelmill_operators import DeltaTableTrigger, watched_table
from modelmill_operators.triggers import MEMORY_KEY, TableWatch

RECORDED = AdvanceOutcome(acked=1, failed=0)
POLL_SECONDS = 0.02


class Memory:
    """What an asset's state store does, in this process."""

    def __init__(self) -> None:
        self.kept: dict[str, Any] = {}
        self.failures = 0

    async def aget(self, key: str, default: Any = None) -> Any:
        self._fail()
        return self.kept.get(key, default)

    async def aset(self, key: str, value: Any) -> None:
        self._fail()
        self.kept[key] = value

    def _fail(self) -> None:
        if self.failures:
            self.failures -= 1
            raise OSError("the store is away")


@pytest.fixture
def memory() -> Memory:
    return Memory()


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return tmp_path / "a table"


def commit(table: Path) -> None:
    write_deltalake(str(table), pa.table({"n": [1]}), mode="append")


async def events(watch: TableWatch, *, seconds: float = 0.3, record: bool = True) -> list[int]:
    """Return the versions that a watch tells of in a while; ``record``: whether Airflow records them."""
    told = []
    stream = watch.open_stream()
    try:
        async with asyncio.timeout(seconds):
            async for payload, seen in stream:
                told.append(payload["version"])
                if record:
                    await watch.advance([AdvanceItem(seen, RECORDED)])
    except TimeoutError:
        pass
    return told


def look(table: Path, memory: Memory | None, **options: Any) -> list[int]:
    """Live for a while, as a triggerer does between two restarts."""
    return asyncio.run(events(TableWatch(str(table), memory=memory, poll_seconds=POLL_SECONDS), **options))


def test_each_version_is_told_once_across_restarts(table: Path, memory: Memory) -> None:
    commit(table)
    assert look(table, memory) == [0]
    assert look(table, memory) == []
    for _ in range(3):
        commit(table)
    assert look(table, memory) == [3]  # what came meanwhile is one event
    assert look(table, memory) == []


def test_an_event_that_was_not_recorded_is_told_again(table: Path, memory: Memory) -> None:
    commit(table)
    assert look(table, memory, record=False) == [0]
    assert look(table, memory) == [0]
    assert look(table, memory) == []


def test_an_event_that_airflow_refused_is_not_remembered(table: Path, memory: Memory) -> None:
    commit(table)
    watch = TableWatch(str(table), memory=memory, poll_seconds=1)

    async def refuse() -> None:
        async for _, seen in watch.open_stream():
            await watch.advance([AdvanceItem(seen, AdvanceOutcome(acked=0, failed=1))])
            return

    asyncio.run(refuse())
    assert memory.kept == {}


def test_versions_are_told_while_it_looks(table: Path, memory: Memory) -> None:
    async def live() -> list[int]:
        commit(table)
        watching = asyncio.create_task(
            events(TableWatch(str(table), memory=memory, poll_seconds=POLL_SECONDS), seconds=1.2)
        )
        for _ in range(2):
            await asyncio.sleep(0.4)
            await asyncio.to_thread(commit, table)
        return await watching

    assert asyncio.run(live()) == [0, 1, 2]


def test_the_event_says_what_and_when(table: Path) -> None:
    commit(table)

    async def first() -> TriggerEvent:
        return await anext(DeltaTableTrigger(uri=str(table)).run())

    payload = asyncio.run(first()).payload
    assert (payload["uri"], payload["version"]) == (str(table), 0)
    age = datetime.now(UTC) - datetime.fromisoformat(payload["timestamp"])
    assert timedelta(0) <= age < timedelta(minutes=1)


def test_a_missing_table_is_waited_for(table: Path, memory: Memory, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    async def live() -> list[int]:
        watching = asyncio.create_task(
            events(TableWatch(str(table), memory=memory, poll_seconds=POLL_SECONDS), seconds=0.8)
        )
        await asyncio.sleep(0.3)
        await asyncio.to_thread(commit, table)
        return await watching

    assert asyncio.run(live()) == [0]
    assert [record.getMessage() for record in caplog.records] == [f"waiting for a table at {table}"]


def test_another_table_in_the_same_place_is_told(table: Path, memory: Memory) -> None:
    for _ in range(3):
        commit(table)
    assert look(table, memory) == [2]
    shutil.rmtree(table)
    assert look(table, memory) == []
    commit(table)
    assert look(table, memory) == [0]


def test_trouble_is_said_once_and_tried_again_more_slowly(
    table: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    commit(table)
    newest = table / "_delta_log" / f"{0:020d}.json"
    whole = newest.read_text()
    newest.write_text(whole[:-30])
    waits = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 8:
            newest.write_text(whole)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    watch = TableWatch(str(table), memory=None, poll_seconds=10)

    async def first() -> int:
        async for payload, _ in watch.open_stream():
            return int(payload["version"])
        return -1

    assert asyncio.run(first()) == 0
    assert waits == [10, 20, 40, 80, 160, 320, 600, 600]
    trouble, over = [record.getMessage() for record in caplog.records]
    assert trouble.startswith(f"{table} cannot be watched, and is tried again: ")
    assert trouble.endswith("Truncated record whilst reading null")
    assert over == f"{table} is watched again"


def test_a_state_store_that_is_away_loses_nothing(table: Path, memory: Memory) -> None:
    commit(table)
    memory.failures = 2
    assert look(table, memory) == [0]
    assert memory.kept[MEMORY_KEY]["version"] == 0
    commit(table)
    watch = TableWatch(str(table), memory=memory, poll_seconds=POLL_SECONDS)

    async def advance_in_trouble() -> list[int]:
        memory.failures = 0
        async for payload, seen in watch.open_stream():
            memory.failures = 2
            await watch.advance([AdvanceItem(seen, RECORDED)])
            return [payload["version"]]
        return []

    assert asyncio.run(advance_in_trouble()) == [1]
    assert memory.kept[MEMORY_KEY]["version"] == 1


def test_many_watches_share_a_loop_that_stays_free(tmp_path: Path) -> None:
    """Fifty tables, looked at a hundred times a second: the loop is never held for long."""
    for number in range(50):
        commit(tmp_path / str(number))

    async def live() -> tuple[list[list[int]], float]:
        watches = [TableWatch(str(tmp_path / str(n)), memory=None, poll_seconds=0.5) for n in range(50)]
        running = asyncio.gather(*(events(watch, seconds=2.0) for watch in watches))
        longest, loop = 0.0, asyncio.get_running_loop()
        while not running.done():
            before = loop.time()
            await asyncio.sleep(0.005)
            longest = max(longest, loop.time() - before)
        return await running, longest

    told, longest = asyncio.run(live())
    print(f"the loop was held for {longest * 1000:.0f} ms at most")
    assert told == [[0]] * 50
    assert longest < 0.5


def test_airflow_remembers_only_what_it_has_recorded(
    table: Path, memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real manager of shared streams: as the triggerer does, bind each event and confirm it later."""
    monkeypatch.setattr(
        "airflow.sdk.execution_time.context.AssetStateStoreAccessor", lambda name: memory if name else None
    )
    commit(table)
    trigger = DeltaTableTrigger(uri=str(table), asset="the asset", poll_seconds=POLL_SECONDS)
    key = trigger.shared_stream_key()

    async def live(manager: SharedStreamManager, confirm: bool) -> list[int]:
        told = []
        stream = trigger.filter_shared_stream(manager.subscribe(trigger_id=1, trigger=trigger, key=key))

        async def listen(stream: AsyncIterator[TriggerEvent]) -> None:
            async for event in stream:
                told.append(event.payload["version"])
                seq = manager.bind_pending_event(trigger_id=1, key=key)
                assert seq is not None
                if confirm:
                    asyncio.get_running_loop().call_later(0.1, manager.confirm_persisted, [seq])

        try:
            await asyncio.wait_for(listen(stream), 0.5)
        except TimeoutError:
            await manager.unsubscribe(1, key)
        return told

    def once(*, confirm: bool) -> list[int]:
        async def main() -> list[int]:
            return await live(SharedStreamManager(log=structlog.get_logger()), confirm)

        return asyncio.run(main())

    assert once(confirm=False) == [0]
    assert memory.kept == {}
    assert once(confirm=True) == [0]
    assert memory.kept[MEMORY_KEY]["version"] == 0
    assert once(confirm=True) == []


def test_a_trigger_is_made_again_from_what_it_serialises() -> None:
    trigger = DeltaTableTrigger(uri="/lake/raw", asset="a", poll_seconds=5)
    path, kwargs = trigger.serialize()
    assert path == "modelmill_operators.triggers.DeltaTableTrigger"
    again = DeltaTableTrigger(**kwargs)
    assert again.serialize() == trigger.serialize()
    assert again.shared_stream_key() == trigger.shared_stream_key()


def test_the_deployment_says_how_often_to_look(monkeypatch: pytest.MonkeyPatch) -> None:
    trigger = DeltaTableTrigger(uri="/lake/raw")
    assert trigger.watch(None).poll_seconds == 30
    monkeypatch.setenv("AIRFLOW__MODELMILL__POLL_SECONDS", "7")
    assert trigger.watch(None).poll_seconds == 7
    assert DeltaTableTrigger(uri="/lake/raw", poll_seconds=2).watch(None).poll_seconds == 2


@pytest.mark.parametrize("uri", ["/lake/über raw/", "file:///lake/%C3%BCber%20raw"])
def test_a_watched_table_is_the_asset_that_tasks_write(uri: str) -> None:
    asset = watched_table(uri)
    assert (asset.name, asset.uri) == ("file:///lake/%C3%BCber%20raw",) * 2
    (watcher,) = asset.watchers
    assert isinstance(watcher, AssetWatcher)
    assert encode_trigger(watcher.trigger)["kwargs"] == {
        "uri": "/lake/über raw",
        "asset": asset.name,
        "poll_seconds": None,
    }
    assert isinstance(watched_table("s3://lake/raw/"), Asset)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: watched_table("lake/raw"), "absolute path or a URI; got 'lake/raw'"),
        (lambda: DeltaTableTrigger(uri="/x", poll_seconds=0), "must be positive; got 0"),
    ],
)
def test_what_cannot_be_watched_is_refused(make: Callable[[], Awaitable[Any]], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        make()
