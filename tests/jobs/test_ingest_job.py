"""The ingest job on the embedded engine: every file once, nothing dropped in silence."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake
from pydantic import ValidationError

from modelmill.artifacts import TableRef
from modelmill.errors import EXIT_REFUSED, ConfigError, InputError, TableError, TransientError
from modelmill.tables.ingest import IngestRequest, IngestResult
from modelmill.tables.reading import read_arrow
from modelmill_jobs import ingest

Row = dict[str, object]


def lines(path: Path, *rows: Row) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


class Landing:
    """A folder of files and the table they are loaded into."""

    def __init__(self, spark: Any, folder: Path) -> None:
        self.spark, self.folder, self.table = spark, folder / "landing zone", folder / "table"
        self.folder.mkdir()

    def load(self, pattern: str = "*.jsonl", **more: Any) -> IngestResult:
        request = IngestRequest(source=str(self.folder / pattern), to=str(self.table), **more)
        return ingest.main(request, self.spark)

    def rows(self) -> list[Row]:
        version = DeltaTable(str(self.table)).version()
        table = read_arrow(TableRef(uri=str(self.table), version=version))
        return sorted(table.to_pylist(), key=lambda row: json.dumps(row, default=str))


@pytest.fixture
def landing(sail: Any, tmp_path: Path) -> Landing:
    return Landing(sail, tmp_path)


def test_each_file_is_loaded_once_and_the_newest_version_is_handed_on(landing: Landing) -> None:
    lines(landing.folder / "monday.jsonl", {"id": 1, "text": "a"}, {"id": 2, "text": "b"})
    first = landing.load()
    assert (first.files, first.rows, first.table.version) == (1, 2, 0)
    assert landing.load().table.version == 0
    lines(landing.folder / "tuesday.jsonl", {"id": 3, "text": "c"})
    second = landing.load()
    assert (second.files_found, second.files, second.table.version) == (2, 1, 1)
    write_deltalake(str(landing.table), pa.table({"id": [4], "text": ["d"]}), mode="append")
    third = landing.load()
    assert (third.files, third.table.version) == (0, 2)
    assert [row["id"] for row in landing.rows()] == [1, 2, 3, 4]


def test_a_file_with_other_content_under_the_same_name_is_loaded(landing: Landing) -> None:
    lines(landing.folder / "day.jsonl", {"id": 1})
    landing.load()
    lines(landing.folder / "day.jsonl", {"id": 2})
    assert landing.load().rows == 1
    assert landing.rows() == [{"id": 1}, {"id": 2}]


def test_columns_and_digits_that_come_late_in_a_file_are_kept(landing: Landing) -> None:
    rows: list[Row] = [{"id": number, "value": 1} for number in range(3000)]
    rows.append({"id": 3000, "value": 1.5, "late": "here"})
    lines(landing.folder / "long.jsonl", *rows)
    landing.load()
    table = DeltaTable(str(landing.table)).to_pyarrow_table()
    assert sum(table["value"].to_pylist()) == 3001.5
    assert [value for value in table["late"].to_pylist() if value] == ["here"]


def test_columns_can_be_computed_and_rows_chosen(landing: Landing) -> None:
    lines(landing.folder / "a.jsonl", {"n": 1, "t": "x"}, {"n": 2, "t": "y"})
    landing.load(select={"number": "n * 10", "upper": "upper(t)"}, where="n > 1")
    assert landing.rows() == [{"number": 20, "upper": "Y"}]


def test_a_column_that_is_null_everywhere_is_text(landing: Landing) -> None:
    lines(landing.folder / "a.jsonl", {"id": 1, "note": None})
    landing.load()
    lines(landing.folder / "b.jsonl", {"id": 2})
    lines(landing.folder / "c.jsonl", {"id": 3, "note": "n"})
    landing.load()
    assert landing.rows() == [{"id": 1, "note": None}, {"id": 2, "note": None}, {"id": 3, "note": "n"}]


def test_csv_files_go_by_their_headers(landing: Landing) -> None:
    (landing.folder / "a.csv").write_text('id,text\n1,"x, y"\n')
    (landing.folder / "b.csv").write_text("text,id\nz,2\n")
    landing.load("*.csv", format="csv")
    assert landing.rows() == [{"id": "1", "text": "x, y"}, {"id": "2", "text": "z"}]


def test_csv_files_with_other_columns_are_refused(landing: Landing) -> None:
    (landing.folder / "a.csv").write_text("id,text\n1,x\n")
    (landing.folder / "b.csv").write_text("id,body\n2,y\n")
    with pytest.raises(TableError, match="the same columns"):
        landing.load("*.csv", format="csv")
    assert not landing.table.exists()


def test_parquet_files_bring_the_columns_of_all(landing: Landing) -> None:
    pq.write_table(pa.table({"id": [1]}), landing.folder / "a.parquet")
    pq.write_table(pa.table({"id": [2], "x": ["q"]}), landing.folder / "b.parquet")
    landing.load("*.parquet", format="parquet")
    assert landing.rows() == [{"id": 1, "x": None}, {"id": 2, "x": "q"}]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"id": 1, "text": "a", "extra": 1}, "extra is not in the table"),
        ({"id": "one", "text": "a"}, "id is bigint in the table and string in the files"),
        ({"id": [1], "text": "a"}, "id is bigint in the table and array<bigint> in the files"),
    ],
)
def test_files_that_do_not_fit_the_table_are_refused(landing: Landing, row: Row, said: str) -> None:
    lines(landing.folder / "a.jsonl", {"id": 1, "text": "a"})
    landing.load()
    lines(landing.folder / "b.jsonl", row)
    with pytest.raises(TableError, match="must have the columns of the table") as caught:
        landing.load()
    assert said in str(caught.value)
    assert DeltaTable(str(landing.table)).version() == 0


def test_numbers_fit_a_text_column(landing: Landing) -> None:
    lines(landing.folder / "a.jsonl", {"id": "a1"})
    landing.load()
    lines(landing.folder / "b.jsonl", {"id": 7})
    landing.load()
    assert landing.rows() == [{"id": "7"}, {"id": "a1"}]


def test_whole_numbers_that_a_column_of_doubles_cannot_hold_are_refused(landing: Landing) -> None:
    lines(landing.folder / "a.jsonl", {"it's": 1.5})
    landing.load()
    lines(landing.folder / "b.jsonl", {"it's": 2**53}, {"it's": -(2**53)}, {"it's": None})
    landing.load()
    lines(landing.folder / "c.jsonl", {"it's": 3}, {"it's": 2**53 + 1})
    with pytest.raises(TableError, match=f"beyond 2.53 do not fit into the column its.*{2**53 + 1}"):
        landing.load()
    assert [row["it's"] for row in landing.rows()] == [-(2.0**53), 1.5, 2.0**53, None]


@pytest.mark.parametrize(
    ("more", "kind", "said"),
    [
        ({"select": {"a": "nonsense(id)"}}, ConfigError, "SQL over the files' columns"),
        ({"select": {"a": "idd"}}, ConfigError, "idd"),
        ({"where": "id >"}, ConfigError, "SQL over the files' columns"),
        ({"where": "id + 1"}, ConfigError, "must be a condition"),
    ],
)
def test_wrong_sql_is_refused(
    landing: Landing, more: dict[str, Any], kind: type[InputError], said: str
) -> None:
    lines(landing.folder / "a.jsonl", {"id": 1})
    with pytest.raises(kind, match=said) as caught:
        landing.load(**more)
    assert "\n" not in str(caught.value)
    assert not landing.table.exists()


@pytest.mark.parametrize(
    "more",
    [
        {"select": {"a": "(SELECT max(value) FROM text.`{other}`)"}},
        {"where": "exists(SELECT 1 FROM text.`{other}`)"},
        {"options": {"Path": "{other}"}},
    ],
)
def test_no_other_file_is_read_by_sql_or_an_option(
    landing: Landing, tmp_path: Path, more: dict[str, Any]
) -> None:
    lines(landing.folder / "a.jsonl", {"id": 1})
    other = tmp_path / "other.txt"
    other.write_text("secret")
    ((name, value),) = more.items()
    asked = (
        value.format(other=other)
        if isinstance(value, str)
        else {one: text.format(other=other) for one, text in value.items()}
    )
    with pytest.raises(ValidationError, match=r"a row's columns alone|name no files"):
        landing.load(**{name: asked})
    assert not landing.table.exists()


def test_nothing_to_load_and_no_table_is_an_error(landing: Landing) -> None:
    with pytest.raises(TableError, match="there must be files to load"):
        landing.load()
    assert not landing.table.exists()


@pytest.mark.parametrize("content", ['{"id": 1}\n{"id": 2, oops\n', '{"id": 1\n'])
def test_a_malformed_line_is_an_error_and_leaves_no_table(landing: Landing, content: str) -> None:
    (landing.folder / "a.jsonl").write_text(content)
    with pytest.raises(TableError, match="must be readable") as caught:
        landing.load()
    assert "\n" not in str(caught.value)
    assert not landing.table.exists()


def test_a_name_that_a_reader_would_take_for_a_pattern_is_refused(landing: Landing) -> None:
    lines(landing.folder / "b[1].jsonl", {"id": 1})
    with pytest.raises(TableError, match="rename it"):
        landing.load()
    assert not landing.table.exists()


def test_hidden_files_are_skipped(landing: Landing) -> None:
    lines(landing.folder / "_part.jsonl", {"id": 1})
    lines(landing.folder / "a.jsonl", {"id": 2})
    assert landing.load().files_found == 1


def test_a_place_that_cannot_be_written_is_refused(landing: Landing) -> None:
    lines(landing.folder / "a.jsonl", {"id": 1})
    landing.table = landing.folder / "a.jsonl" / "table"
    with pytest.raises(TableError, match="must be writable"):
        landing.load()


def test_a_job_is_an_application_of_its_own(landing: Landing) -> None:
    command = [sys.executable, "-m", "modelmill_jobs.ingest", "--to", str(landing.table)]
    command += ["--source", str(landing.folder / "*.jsonl")]
    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (refused.returncode, refused.stdout) == (EXIT_REFUSED, "")
    assert refused.stderr.startswith("TableError: there must be files to load")
    lines(landing.folder / "a.jsonl", {"id": 1})
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["rows"] == 1
    request = landing.folder / "request.json"
    request.write_text(
        IngestRequest(source=str(landing.folder / "*.jsonl"), to="/elsewhere").model_dump_json()
    )
    command = [sys.executable, "-m", "modelmill_jobs.ingest", "--request", str(request)]
    done = subprocess.run([*command, "--to", str(landing.table)], capture_output=True, text=True, check=True)
    assert IngestResult.model_validate_json(done.stdout).files == 0


@pytest.mark.parametrize("after", ["check_content", "_fitted"])
def test_a_file_that_is_written_to_meanwhile_is_loaded_whole_and_once(
    landing: Landing, monkeypatch: pytest.MonkeyPatch, after: str
) -> None:
    file = landing.folder / "a.jsonl"
    lines(file, {"id": 1})
    step = getattr(ingest, after)

    def write_on(*args: Any, **more: Any) -> Any:
        result = step(*args, **more)
        with file.open("a") as end:
            end.write('{"id": 2}\n')
        return result

    with monkeypatch.context() as patched:
        patched.setattr(ingest, after, write_on)
        with pytest.raises(TransientError, match="while it is loaded"):
            landing.load()
    assert not landing.table.exists()
    assert landing.load().rows == 2
    assert landing.load().files == 0
    assert landing.rows() == [{"id": 1}, {"id": 2}]


def test_a_file_that_is_moved_away_meanwhile_does_not_count_as_loaded(
    landing: Landing, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines(landing.folder / "a.jsonl", {"id": 1})
    lines(landing.folder / "b.jsonl", {"id": 2})
    away, check = landing.folder / "a.away", ingest.check_content

    def move(*args: Any) -> None:
        check(*args)
        (landing.folder / "a.jsonl").rename(away)

    with monkeypatch.context() as patched:
        patched.setattr(ingest, "check_content", move)
        with pytest.raises(TransientError, match=r"a\.jsonl"):
            landing.load()
    away.rename(landing.folder / "a.jsonl")
    landing.load()
    assert landing.rows() == [{"id": 1}, {"id": 2}]


def test_a_file_is_loaded_once_whatever_links_lead_to_it(landing: Landing) -> None:
    lines(landing.folder / "a.jsonl", {"id": 1})
    (landing.folder / "b.jsonl").symlink_to(landing.folder / "a.jsonl")
    link = landing.folder.parent / "link"
    link.symlink_to(landing.folder)
    for folder in (link, landing.folder, link):
        landing.folder = folder
        landing.load()
    assert landing.rows() == [{"id": 1}]
