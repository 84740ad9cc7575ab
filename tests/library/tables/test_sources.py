"""Files are loaded only from places that the deployment allows."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest

from modelmill.errors import TableError, TransientError
from modelmill.tables import source_files
from modelmill.tables.source_files import check_content, check_source, check_unchanged, list_files


@pytest.mark.parametrize(
    "source",
    [
        "/etc/*",
        "/etc/passwd",
        "file:///etc/passwd",
        "file:///tmp/../etc/passwd",
        "/proc/self/environ",
        "/tmp/../etc/hosts",
        "http://127.0.0.1:8080/a.jsonl",
        "http://169.254.169.254/latest/meta-data",
        "https://example.com/a.jsonl",
        "http://2130706433/a.jsonl",  # 127.0.0.1 as one number
        "http://[::ffff:127.0.0.1]/a.jsonl",
        "http://0x7f.1/a.jsonl",
        "simplecache::http://127.0.0.1/a.jsonl",
        "filecache::file:///etc/passwd",
        "reference::/tmp/reference.json",
        "reference://x",
        "webhdfs://127.0.0.1:50070/a",
        "ftp://127.0.0.1/a",
        "sftp://127.0.0.1/a",
        "github://a/b",
        "zip://a.jsonl::/tmp/a.zip",
        "memory://a.jsonl",
    ],
)
def test_by_default_neither_system_files_nor_servers_are_read(
    source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MODELMILL_SOURCES", raising=False)
    with pytest.raises(TableError, match="MODELMILL_SOURCES"):
        list_files(source)


@pytest.mark.parametrize(
    "source",
    [
        *("{home}/.aws/credentials", "{home}/.ssh/*", "{home}/.kube/config", "{home}/*/credentials"),
        *("/home/somebody/.mlflow/credentials", "/root/.docker/config.json", "{home}/data/../.aws/*"),
        *(
            "{home}/link/credentials",
            "{airflow}/airflow.cfg",
            "{airflow}/*.generated",
            "{root}/keys/sign.pem",
        ),
    ],
)
def test_what_programs_log_in_with_is_not_read(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, airflow = tmp_path / "me", tmp_path / "airflow"
    for file in (
        *(home / ".aws" / "credentials", home / ".ssh" / "id_rsa", home / ".kube" / "config"),
        *(airflow / "airflow.cfg", airflow / "passwords.json.generated", tmp_path / "keys" / "sign.pem"),
    ):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("secret")
    (home / "link").symlink_to(home / ".aws")
    monkeypatch.delenv("MODELMILL_SOURCES", raising=False)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("AIRFLOW_HOME", str(airflow))
    monkeypatch.setenv("MODELMILL_SIGNING_KEY", str(tmp_path / "keys" / "sign.pem"))
    with pytest.raises(TableError, match="MODELMILL_SOURCES"):
        list_files(source.format(home=home, airflow=airflow, root=tmp_path))


@pytest.mark.parametrize(
    ("format_", "options"),
    [("json", {}), ("csv", {}), ("json", {"multiLine": "true"}), ("csv", {"quote": "'"})],
)
def test_a_file_that_unpacks_to_all_memory_is_refused(
    format_: str, options: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source_files, "_UNPACKED", 1 << 24)
    bomb, harmless = tmp_path / f"bomb.{format_}.gz", tmp_path / f"texts.{format_}.gz"
    rows = b'{"a": "b"}\n' if format_ == "json" else b"a,b\n"
    with gzip.open(bomb, "wb") as file:
        for _ in range((1 << 26) // len(rows * 65_536)):
            file.write(rows * 65_536)
    harmless.write_bytes(gzip.compress(rows * 65_536))
    assert bomb.stat().st_size < 140_000
    check_content(list_files(str(harmless)), format_, options)
    with pytest.raises(TableError, match="300 times its size") as caught:
        check_content(list_files(str(bomb)), format_, options)
    assert str(bomb) in str(caught.value)


def test_a_line_of_json_has_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_files, "_LONGEST_LINE", 1 << 20)
    (tmp_path / "a.jsonl").write_text('{"a": "' + "x" * (1 << 20) + '"}\n')
    with pytest.raises(TableError, match="a line of JSON has less than 1 MiB"):
        check_content(list_files(str(tmp_path / "a.jsonl")), "json", {})


def test_folders_of_a_home_are_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MODELMILL_SOURCES", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path / "me" / "airflow"))
    for source in ("landing/*.csv", "work/.demo/data/a.jsonl", "airflow/data/a.csv", "a.csv"):
        check_source(str(tmp_path / "me" / source))
    check_source("/home/somebody/landing/*.csv")


def test_local_folders_and_stores_are_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MODELMILL_SOURCES", raising=False)
    for source in (str(tmp_path / "*.jsonl"), "landing/*.csv", "s3://bucket/landing/*.jsonl", "gs://b/x"):
        check_source(source)


def test_links_out_of_a_folder_are_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inside, outside = tmp_path / "in", tmp_path / "out"
    inside.mkdir()
    outside.mkdir()
    (outside / "b.jsonl").write_text("{}")
    (inside / "system").symlink_to("/etc")
    (inside / "other").symlink_to(outside)
    (inside / "b.jsonl").symlink_to(outside / "b.jsonl")
    with pytest.raises(TableError, match="MODELMILL_SOURCES"):
        list_files(str(inside / "system" / "passwd"))
    assert len(list_files(str(inside / "other" / "*"))) == 1
    monkeypatch.setenv("MODELMILL_SOURCES", str(inside))
    with pytest.raises(TableError, match="MODELMILL_SOURCES"):
        list_files(str(inside / "other" / "*"))
    with pytest.raises(TableError, match="MODELMILL_SOURCES"):
        list_files(str(inside / "b.jsonl"))


@pytest.mark.parametrize(
    ("source", "allowed"),
    [
        ("{root}/landing/a.jsonl", True),
        ("{root}/landing-of-others/a.jsonl", False),
        ("{root}/landing/../secret.jsonl", False),
        ("s3://bucket/landing/*.jsonl", True),
        ("s3://bucket/other/*.jsonl", False),
        ("s3://bucket/landing/../other/a.jsonl", False),
        ("s3://bucket/landing/%2e%2e/other/a.jsonl", False),
        ("simplecache::s3://bucket/landing/a.jsonl", False),
        ("https://data.example/drop/a.jsonl", True),
        ("https://data.example.evil/drop/a.jsonl", False),
        ("/etc/mine/a.jsonl", True),
    ],
)
def test_a_deployment_names_its_places(
    source: str, allowed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = f"{tmp_path}/landing, s3://bucket/landing/ ,https://data.example/drop,/etc/mine"
    monkeypatch.setenv("MODELMILL_SOURCES", places)
    source = source.format(root=tmp_path)
    if allowed:
        check_source(source)
    else:
        with pytest.raises(TableError, match="MODELMILL_SOURCES"):
            check_source(source)


@pytest.mark.parametrize("change", ["grows", "is cut", "has the same size", "is replaced", "is gone"])
@pytest.mark.parametrize("is_settled", [True, False])
def test_a_file_that_changes_while_it_is_loaded_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str, is_settled: bool
) -> None:
    file, other = tmp_path / "a.jsonl", tmp_path / "other"
    file.write_text('{"a": 1}\n')
    if is_settled:
        monkeypatch.setattr(source_files, "SETTLED_NANOSECONDS", 0)
    found = list_files(str(file))
    assert bool(found[0].state) == is_settled
    check_unchanged(found)
    os.utime(file, (2, 2))  # who only touches it changes nothing
    check_unchanged(found)
    if change == "grows":
        file.write_text('{"a": 1}\n{"a": 2}\n')
    elif change == "is cut":
        file.write_text("")
    elif change == "has the same size":
        file.write_text('{"a": 2}\n')
    elif change == "is replaced":
        other.write_text('{"a": 3}\n')
        other.replace(file)
    else:
        file.unlink()
    with pytest.raises(TransientError, match=r"must stay as it is while it is loaded; got .*a\.jsonl"):
        check_unchanged(found)
