"""Tables and logs that delta_table has to refuse."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
from bad_datasets import Case, Config
from deltalake import DeltaTable, write_deltalake

from modelmill.errors import ConfigError

refused = partial(Case.refused, "delta_table")


def table_at(folder: Path, commits: int = 3) -> Config:
    for number in range(commits):
        write_deltalake(str(folder / "table"), pa.table({"id": [number], "t": [f"t{number}"]}), mode="append")
    return {"uri": str(folder / "table")}


def log_file(folder: Path, version: int) -> Path:
    return folder / "table" / "_delta_log" / f"{version:020d}.json"


def damaged(version: int, change: Callable[[Path], object], **config: Any) -> Callable[[Path], Config]:
    """A table of three commits, one of which is damaged."""

    def make(folder: Path) -> Config:
        made = table_at(folder)
        change(log_file(folder, version))
        return {**made, **config}

    return make


def placed(make_place: Callable[[Path], object], uri: str = "table") -> Callable[[Path], Config]:
    def make(folder: Path) -> Config:
        make_place(folder)
        return {"uri": str(folder / uri) if "://" not in uri and uri.strip() else uri}

    return make


def protocol(reader: int, *features: str, mapping: str = "") -> Callable[[Path], Config]:
    """A log written by hand that says what a reader must know."""

    def change(commit: Path) -> None:
        actions = [json.loads(line) for line in commit.read_text().splitlines()]
        for action in actions:
            if "protocol" in action:
                action["protocol"] = {"minReaderVersion": reader, "minWriterVersion": 7}
                action["protocol"] |= {"readerFeatures": list(features)} if reader == 3 else {}
                action["protocol"] |= {"writerFeatures": list(features)}
            if mapping and "metaData" in action:
                action["metaData"]["configuration"] = {"delta.columnMapping.mode": mapping}
                schema = json.loads(action["metaData"]["schemaString"])
                for number, field in enumerate(schema["fields"]):
                    field["metadata"] = {
                        "delta.columnMapping.id": number,
                        "delta.columnMapping.physicalName": field["name"],
                    }
                action["metaData"]["schemaString"] = json.dumps(schema)
        commit.write_text("".join(json.dumps(action) + "\n" for action in actions))

    return damaged(0, change)


def without(kind: str) -> Callable[[Path], object]:
    """Take the actions of a kind out of a commit."""

    def change(commit: Path) -> None:
        lines = [line for line in commit.read_text().splitlines() if kind not in json.loads(line)]
        commit.write_text("".join(f"{line}\n" for line in lines))

    return change


def bad_checkpoint(folder: Path) -> Config:
    made = table_at(folder)
    DeltaTable(made["uri"]).create_checkpoint()
    (folder / "table" / "_delta_log" / f"{2:020d}.checkpoint.parquet").write_bytes(b"PAR1 torn")
    log_file(folder, 0).unlink()
    return made


def cut(commit: Path) -> None:
    commit.write_bytes(commit.read_bytes()[:-40])


def zeros(commit: Path) -> None:
    commit.write_bytes(b"\x00" * commit.stat().st_size)


DELTA = [
    refused("no path", placed(lambda f: None, " "), "must not be empty"),
    refused("no table", placed(lambda f: None), "must exist", "check the path"),
    refused("plain folder", placed(lambda f: (f / "table").mkdir()), "no _delta_log"),
    refused("plain file", placed(lambda f: (f / "table").write_text("x")), "table"),
    refused(
        "empty log", placed(lambda f: (f / "table/_delta_log").mkdir(parents=True)), "readable Delta table"
    ),
    refused(
        "log is a file",
        placed(lambda f: ((f / "table").mkdir(), (f / "table/_delta_log").write_text("x"))),
        "Delta table",
    ),
    refused("unknown scheme", placed(lambda f: None, "nowhere://x/t"), "nowhere"),
    refused("version in the future", lambda f: {**table_at(f), "version": 9}, "got 9", "newest version is 2"),
    refused(
        "version before the first",
        lambda f: {**table_at(f), "version": -1},
        "greater than or equal to 0",
        error=ConfigError,
    ),
    refused(
        "version that is text", lambda f: {**table_at(f), "version": "newest"}, "integer", error=ConfigError
    ),
    refused("commit empty", damaged(1, lambda c: os.truncate(c, 0)), "0 bytes", "read version 0"),
    refused("newest commit empty", damaged(2, lambda c: os.truncate(c, 0)), "0 bytes", "read version 1"),
    refused("commit cut off", damaged(1, cut), "log must be readable", "restore"),
    refused("commit zero-filled", damaged(1, zeros), "log must be readable"),
    refused("commit of blanks", damaged(1, lambda c: c.write_text("\n\n")), "log"),
    refused("commit missing", damaged(1, lambda c: c.unlink()), "log must be readable"),
    refused("first commit missing", damaged(0, lambda c: c.unlink()), "log must be readable"),
    refused("commit is no JSON", damaged(1, lambda c: c.write_text("rows\n")), "log must be readable"),
    refused("commit is a folder", damaged(2, lambda c: (c.unlink(), c.mkdir())), "log"),
    refused("no metadata", damaged(0, without("metaData")), "log must be readable"),
    refused("no protocol", damaged(0, without("protocol")), "log must be readable"),
    refused("checkpoint torn", bad_checkpoint, "log must be readable"),
    refused("type widening", protocol(3, "typeWidening"), "got 'typeWidening'"),
    refused(
        "deletion vectors behind a vacuum check",
        protocol(3, "deletionVectors", "vacuumProtocolCheck"),
        "got 'vacuumProtocolCheck'",
        "DROP FEATURE",
    ),
    refused("variant", protocol(3, "variantType"), "got 'variantType'"),
    refused("feature of the future", protocol(3, "quantumRows"), "quantumRows"),
    refused("reader of the future", protocol(9), "9"),
]
