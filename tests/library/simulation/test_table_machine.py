"""A Delta table against a list of its versions: each commit happens once, and old versions stay."""

from __future__ import annotations

import contextlib
import tempfile
import uuid
from collections import Counter
from pathlib import Path

import pyarrow as pa
from benchmarks.crash_points import Died, crash_points
from deltalake import DeltaTable
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from tests.library.simulation.examples import tried

from modelmill.tables.commits import committed_version, write_rows
from modelmill.tables.row_replacement import replace_rows
from modelmill.tables.staged_leftovers import remove_leftover, staged_leftovers

Rows = Counter[int]
SCHEMA = pa.schema({"id": pa.int64()})


def table(rows: Rows) -> pa.Table:
    return pa.table({"id": pa.array(sorted(rows.elements()), pa.int64())})


class Tables(RuleBasedStateMachine):
    """Writers that die and are tried again, late retries of old ones, and a sweeper."""

    def __init__(self) -> None:
        super().__init__()
        self.held = contextlib.ExitStack()
        self.points = self.held.enter_context(crash_points())
        self.place = str(Path(self.held.enter_context(tempfile.TemporaryDirectory())) / "table")
        self.versions: list[Rows] = []
        self.done: dict[str, int] = {}
        """Version of each transaction that was committed."""

    def teardown(self) -> None:
        self.held.close()

    @property
    def rows(self) -> Rows:
        return self.versions[-1] if self.versions else Rows()

    def _committed(self, transaction: str, version: int | None, after: Rows) -> None:
        assert version is not None
        if version == len(self.versions):
            self.versions.append(after)
        assert version == len(self.versions) - 1
        self.done[transaction] = version

    @rule(
        ids=st.lists(st.integers(0, 9), min_size=1, max_size=4),
        mode=st.sampled_from(["append", "append", "overwrite"]),
        at=st.none() | st.integers(0, 20),
    )
    def a_writer_writes_and_is_tried_again(self, ids: list[int], mode: str, at: int | None) -> None:
        rows, transaction = Rows(ids), uuid.uuid4().hex
        after = self.rows + rows if mode == "append" else rows

        def write() -> int:
            return write_rows(self.place, table(rows), mode=mode, transaction=transaction)  # type: ignore[arg-type]

        with contextlib.suppress(Died), self.points.life(at):
            write()
        self._committed(transaction, write(), after)

    @rule(ids=st.lists(st.integers(0, 9), min_size=1, max_size=3), at=st.integers(0, 20))
    def a_writer_dies_for_good(self, ids: list[int], at: int) -> None:
        rows, transaction = Rows(ids), uuid.uuid4().hex
        with contextlib.suppress(Died), self.points.life(at):
            write_rows(self.place, table(rows), mode="append", transaction=transaction)
        found = committed_version(self.place, transaction)
        if found is not None:
            self._committed(transaction, found, self.rows + rows)

    @precondition(lambda self: self.done)
    @rule(data=st.data())
    def a_late_try_writes_once_more(self, data: st.DataObject) -> None:
        transaction = data.draw(st.sampled_from(sorted(self.done)))
        found = write_rows(self.place, table(Rows([7])), mode="append", transaction=transaction)
        assert found == self.done[transaction]

    @precondition(lambda self: self.versions)
    @rule(data=st.data(), came=st.lists(st.integers(0, 9), max_size=3), at=st.none() | st.integers(0, 20))
    def rows_are_replaced(self, data: st.DataObject, came: list[int], at: int | None) -> None:
        present = sorted(self.rows.elements())
        gone = data.draw(st.lists(st.sampled_from(present), max_size=3, unique=True)) if present else []
        if data.draw(st.booleans()):
            gone = [*gone, 77]  # which is no row of the table: it was read at another version
        version, transaction = len(self.versions) - 1, uuid.uuid4().hex

        def replace() -> int | None:
            return replace_rows(
                self.place,
                version,
                gone=table(Rows(gone)),
                came=table(Rows(came)),
                transaction=transaction,
                metadata={},
                key="id",
            )

        with contextlib.suppress(Died), self.points.life(at):
            replace()
        found = replace()
        # Rows that are on both sides stay: one of each.
        out, into = Rows(gone) - Rows(came), Rows(came) - Rows(gone)
        if 77 in out:
            assert found is None
        elif out or into:
            self._committed(transaction, found, self.rows - out + into)
        else:
            assert found == version

    @precondition(lambda self: self.versions)
    @rule()
    def what_the_dead_have_staged_is_removed(self) -> None:
        for leftover in staged_leftovers(self.place, days=0):
            assert remove_leftover(leftover)
        assert not staged_leftovers(self.place, days=0)

    @invariant()
    def every_version_is_as_it_was(self) -> None:
        if not self.versions:
            assert not DeltaTable.is_deltatable(self.place)
            return
        assert DeltaTable(self.place).version() == len(self.versions) - 1
        for version in {0, len(self.versions) // 2, len(self.versions) - 1}:
            found = DeltaTable(self.place, version=version).to_pyarrow_table()
            assert Rows(found["id"].to_pylist()) == self.versions[version], version


TestTables = tried(Tables, few=12)
