"""A Spark job of another distribution: started by its component, and as an application of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from modelmill.artifacts import TableRef
from modelmill.pipeline.catalogue import catalogue
from modelmill.pipeline.request import StepRequest
from modelmill.pipeline.runner import run_step
from modelmill.pipeline.validation import parse_pipeline
from modelmill.settings import Settings
from modelmill.tables.reading import read_arrow

pytestmark = pytest.mark.usefixtures("extension")

PIPELINE = """
pipeline: words
steps:
  raw: {component: delta_table, config: {uri: /tables/news}}
  counted:
    component: count_words
    inputs: {table: raw.table}
    config: {to: /tables/words}
"""


@pytest.fixture
def news(tmp_path: Path) -> TableRef:
    write_deltalake(str(tmp_path / "news"), pa.table({"text": ["grain and bank", "grain"]}))
    return TableRef(uri=str(tmp_path / "news"), version=0)


def test_a_pipeline_may_use_it_and_the_canvas_offers_it() -> None:
    assert catalogue()["count_words"].group == "Acme"
    assert parse_pipeline(PIPELINE).steps["counted"].component == "count_words"


def test_its_component_runs_it_on_the_embedded_engine(
    settings: Settings, news: TableRef, tmp_path: Path
) -> None:
    request = StepRequest(
        pipeline="words",
        step="counted",
        component="count_words",
        config={"to": str(tmp_path / "words")},
        inputs={"table": news},
    )
    table = run_step(request, settings).outputs["table"]
    assert isinstance(table, TableRef)
    counts = read_arrow(table).to_pylist()
    assert {row["word"]: row["count"] for row in counts} == {"grain": 2, "and": 1, "bank": 1}
    assert run_step(request, settings).reused


def test_it_is_an_application_of_its_own(news: TableRef, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "acme_mill.count_words_job", "--table", news.model_dump_json()]
    command += ["--to", str(tmp_path / "words"), "--transaction", "once"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == {
        "table": {"kind": "table", "uri": str(tmp_path / "words"), "version": 0},
        "words": 4,
    }
