"""Where tables may lie: in local folders, and in stores that the deployment allows, each spelled plainly."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from modelmill.errors import ConfigError, TableError
from modelmill.tables.commits import write_rows
from modelmill.tables.newest_commit import newest_commit
from modelmill.tables.opening import open_table
from modelmill.tables.storage import check_place, table_exists, table_location
from modelmill.tables.write_checks import check_not_kept

ROWS = pa.table({"a": [1]})

HOSTILE = [
    *("http://169.254.169.254/latest", "https://127.0.0.1:8080/x", "HTTP://169.254.169.254/latest"),
    *("webhdfs://169.254.169.254/x", "webdav://127.0.0.1/x", "opendal+webdav://127.0.0.1/x"),
    *("sftp://127.0.0.1/x", "opendal+ftp://127.0.0.1/x", "hf://datasets/a/b", "swift://a/b", "uc://a.b.c"),
    *("fs:///tmp/x", "opendal+fs:///tmp/x", "memory:///x", "simplecache::http://127.0.0.1/x"),
    *(" FILE:///tmp/x", "\tfs:///tmp/x", "s3 ://b/x", "zz://x", "://x", "x://../y"),
]
UNPLAIN = [
    *("s3://b/a/../x", "s3://b//x", "s3://b/./x", "s3://b/%2e%2e/x", "s3://b/%252e%252e/x"),
    *("s3://b/x?versionId=1", "s3://b/x#y", "s3://b/x\\y", "s3://b/x\n", "gs://b/le\tdger", "s3://b/x\0"),
]


@pytest.mark.parametrize(
    ("place", "said"),
    [*((one, "MODELMILL_STORES") for one in HOSTILE), *((one, "names its folder") for one in UNPLAIN)],
)
def test_servers_and_disguised_folders_are_no_tables(place: str, said: str) -> None:
    for use in (
        *(open_table, table_exists, newest_commit),
        lambda uri: write_rows(uri, ROWS, mode="append", transaction="t"),
    ):
        with pytest.raises(TableError, match=said):
            use(place)


@pytest.mark.parametrize(
    "place",
    [
        *("s3://bucket", "S3://b/x", "s3a://b/a b/x", "gs://b/x.y", "az://c/x", "abfss://c@a.dfs.core/x"),
        *("hdfs://name:8020/x", "hdfs:///x", "dbfs:///x", "viewfs://c/x", "/tmp/x", "s3://b/a%20b"),
    ],
)
def test_usual_stores_are_allowed(place: str) -> None:
    check_place(table_location(place))


def test_the_deployment_may_allow_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELMILL_STORES", "LakeFS, uc")
    check_place(table_location("lakefs://repo/main/x"))
    check_place(table_location("UC://a.b.c"))
    with pytest.raises(TableError, match=r"a store that is allowed .*lakefs.*uc"):
        check_place("oss://b/x")


@pytest.mark.parametrize(
    ("place", "is_allowed"),
    [
        *(("hdfs://name:8020", True), ("hdfs://name:8020/x", True), ("HDFS://name:8020/a b", True)),
        *(("hdfs://name:80200/x", False), ("hdfs://name/x", False), ("hdfs://evil:8020/x", False)),
        *(("hdfs://name:8020@evil/x", False), ("hdfs://evil@name:8020/x", False), ("hdfs:///x", False)),
        *(("viewfs://name:8020/x", False), ("opendal+hdfs://evil/x", False)),
        *(("oss://lake/gold/x", True), ("oss://lake/golden", False), ("oss://other/gold/x", False)),
        *(("s3://b/x", True), ("lakefs://repo/main/x", True), ("uc://a/x", False)),
    ],
)
def test_the_deployment_may_name_where_tables_of_a_store_lie(
    place: str, is_allowed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It names one place of HDFS and one of a store that is not usual: the other stores are as before."""
    monkeypatch.setenv("MODELMILL_STORES", "hdfs://name:8020/, oss://lake/gold, lakefs, opendal+hdfs")
    if is_allowed:
        check_place(table_location(place))
        return
    with pytest.raises(TableError, match=r"MODELMILL_STORES|no password"):
        check_place(table_location(place))


def test_the_name_node_that_hdfs_itself_names_can_be_the_only_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELMILL_STORES", "hdfs:///")
    check_place("hdfs:///lake/x")
    with pytest.raises(TableError, match="below a place that the deployment names"):
        check_place("hdfs://name/lake/x")
    for unplain in ("hdfs://", "://name"):
        monkeypatch.setenv("MODELMILL_STORES", unplain)
        with pytest.raises(ConfigError, match="write a place as hdfs://name:8020"):
            check_place("hdfs://name/x")


def test_a_local_path_has_one_spelling(tmp_path: Path) -> None:
    for protocol in ("file", "FILE", "fIlE"):
        assert table_location(f"{protocol}://{tmp_path}/x") == f"{tmp_path}/x"
    assert write_rows(f"FILE://{tmp_path}/x", ROWS, mode="append", transaction="t") == 0
    assert open_table(str(tmp_path / "x")).version() == 0


@pytest.mark.parametrize(
    ("ledger", "place"),
    [
        *(("s3://b/a/ledger", f"{one}://b/a/ledger") for one in ("s3", "s3a", "S3", "opendal+s3")),
        *(("s3://b/ledger", one) for one in ("s3://b/%6cedger", "s3://b/%256cedger", "s3://u@b/ledger")),
        *(("s3://b/ledger", one) for one in ("s3://b:80/ledger", "s3://b/ledger/part", "s3://b/ledger/")),
        *(("gcs://b/ledger", one) for one in ("gs://b/ledger", "GS://b/ledger")),
        *(("az://c/ledger", f"{one}://c@acc.dfs.core.windows.net/ledger") for one in ("abfs", "abfss")),
        *(
            ("abfss://c@acc.dfs.core.windows.net/ledger", f"{one}://c/ledger")
            for one in ("az", "azure", "adl")
        ),
        *(("hdfs://name:8020/ledger", one) for one in ("hdfs:///ledger", "viewfs://x/ledger")),
    ],
)
def test_the_ledger_is_known_by_each_of_its_names(
    ledger: str, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELMILL_LEDGER", ledger)
    monkeypatch.setenv("MODELMILL_STORES", "opendal+s3")
    with pytest.raises(TableError, match="a step does not write where modelmill keeps the ledger"):
        check_not_kept(table_location(place))
    check_not_kept(table_location(ledger.replace("ledger", "ledgers")))


@pytest.mark.parametrize(
    "place", ["file:///t/a b", "file:/t/a%20b", "FILE:/t/x/../a b/", "file://localhost/t/a%20b"]
)
def test_each_spelling_of_a_local_folder_is_one_place(place: str) -> None:
    assert table_location(place) == "/t/a b"


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("file://other/t", "names no other machine"),
        ("file://t/a", "with three slashes"),
        ("file:///t/a?.jsonl", "without file://"),
        ("file:///t/a#b", "without file://"),
        ("/t/a\0b", "no NUL"),
        ("file:///t/a%00b", "no NUL"),
    ],
)
def test_no_other_folder_is_read_than_a_url_names(place: str, said: str) -> None:
    with pytest.raises(TableError, match=said):
        table_location(place)
