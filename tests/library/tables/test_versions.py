"""Reading a table as it stood at a time."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from pydantic import ValidationError

from modelmill.errors import TableError
from modelmill.settings import Settings
from modelmill.steps.delta_table import DeltaTableConfig, delta_table
from modelmill.steps.ports import NoInputs
from modelmill.tables.versions import resolve_table

DAY = datetime(2024, 3, 1, tzinfo=UTC)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Four versions, one a day; the third one's clock went back by two days."""
    path = tmp_path / "table"
    for number, day in enumerate([0, 1, -1, 3]):
        write_deltalake(str(path), pa.table({"n": [number]}), mode="append")
        touch(path, number, DAY + timedelta(days=day))
    return path


def commit(table: Path, version: int) -> Path:
    return table / "_delta_log" / f"{version:020d}.json"


def touch(table: Path, version: int, moment: datetime) -> None:
    os.utime(commit(table, version), (moment.timestamp(), moment.timestamp()))


def at(table: Path, moment: datetime) -> int:
    return resolve_table(str(table), timestamp=moment).version


def test_the_newest_version_of_that_time_is_read(table: Path) -> None:
    assert at(table, DAY) == 0
    assert at(table, DAY + timedelta(hours=23)) == 0
    # Version 2 counts as a millisecond younger than version 1, whatever its clock said.
    assert at(table, DAY + timedelta(days=1)) == 1
    assert at(table, DAY + timedelta(days=1, milliseconds=1)) == 2
    east = timezone(timedelta(hours=5))
    assert at(table, (DAY + timedelta(days=3)).astimezone(east)) == 3


def test_times_that_no_commit_reaches_are_refused(table: Path) -> None:
    with pytest.raises(TableError, match=r"oldest commit is version 0, of 2024-03-01T00:00:00.000\+00:00$"):
        at(table, DAY - timedelta(milliseconds=1))
    with pytest.raises(TableError, match="time that has passed"):
        at(table, datetime.now(UTC) + timedelta(hours=1))


def test_a_log_that_was_cleaned_up_says_how_far_back_it_reaches(table: Path) -> None:
    DeltaTable(str(table), version=2).create_checkpoint()
    for version in (0, 1):
        commit(table, version).unlink()
    with pytest.raises(TableError, match=r"version 2, of 2024-02-29.*older ones have been cleaned up"):
        at(table, DAY - timedelta(days=2))
    assert at(table, DAY + timedelta(days=2)) == 2


def test_in_commit_timestamps_are_believed_instead_of_the_files(table: Path) -> None:
    for version in (2, 3):
        actions = [json.loads(line) for line in commit(table, version).read_text().splitlines()]
        # Whoever copies a table gives its files new times; the commits keep theirs.
        inside = DAY + timedelta(days=10 * version)
        actions[0]["commitInfo"]["inCommitTimestamp"] = int(inside.timestamp() * 1000)
        if version == 2:
            old = json.loads(commit(table, 0).read_text().splitlines()[2])["metaData"]
            old["configuration"] = {
                "delta.enableInCommitTimestamps": "true",
                "delta.inCommitTimestampEnablementVersion": "2",
                "delta.inCommitTimestampEnablementTimestamp": str(int(inside.timestamp() * 1000)),
            }
            features = ["inCommitTimestamp"]
            protocol = {"minReaderVersion": 1, "minWriterVersion": 7, "writerFeatures": features}
            actions += [{"metaData": old}, {"protocol": protocol}]
        commit(table, version).write_text("".join(json.dumps(action) + "\n" for action in actions))
    assert at(table, DAY + timedelta(days=19)) == 1
    assert at(table, DAY + timedelta(days=20)) == 2
    assert at(table, DAY + timedelta(days=30)) == 3


def test_a_step_names_a_version_or_a_time_with_its_zone(table: Path) -> None:
    config = DeltaTableConfig.model_validate({"uri": "/t", "timestamp": "2024-03-01T01:00:00+01:00"})
    assert config.timestamp == DAY
    config = DeltaTableConfig(uri=str(table), timestamp=DAY)
    assert delta_table.outside_state is not None
    assert delta_table.outside_state(config, NoInputs(), Settings.from_environment()).startswith(
        f"{table}@0 "
    )
    with pytest.raises(ValidationError, match="timezone"):
        DeltaTableConfig.model_validate({"uri": "/t", "timestamp": "2024-03-01T01:00:00"})
    with pytest.raises(ValidationError, match="not both"):
        DeltaTableConfig.model_validate({"uri": "/t", "timestamp": "2024-03-01T01:00:00Z", "version": 3})
