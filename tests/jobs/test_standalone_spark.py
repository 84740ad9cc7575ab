"""A standalone Spark of two workers, one of which is killed in each job: the same rows as embedded."""

from __future__ import annotations

import dataclasses
import functools
import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import write_deltalake
from demo.servers import LocalSpark
from tests.jobs.conftest import spark_home

from modelmill.artifacts import ModelRef, TableRef
from modelmill.datasets.options import BuildOptions
from modelmill.datasets.request import BuildDatasetRequest
from modelmill.errors import ConfigError
from modelmill.jobs import JobRequest, run_job
from modelmill.rules.lifecycle.table_decisions import DecideTableRequest, table_decider
from modelmill.rules.pinned_rule_set import pin_rule_set
from modelmill.rules.reading import parse_rule_set
from modelmill.serving.scoring import ScoreTableRequest
from modelmill.settings import Settings
from modelmill.spark import session
from modelmill.tables.reading import read_arrow

pytestmark = pytest.mark.jvm

ROWS = 2000
RULES = """
rule_set: moderation
key: id
signals:
  offer: {kind: phrases, column: text, phrases: [grain 7]}
  trade: {kind: model, column: text, model: MODEL, label: grain}
rules:
  - {name: offer, when: offer, then: remove}
  - {name: trade, when: trade > 0.6, then: review}
default: allow
on_unknown: look
"""
OPTIONS = BuildOptions(key="id", text="text", labels=("topic",))


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalSpark]:
    with LocalSpark(tmp_path_factory.mktemp("standalone"), spark_home()) as spark:
        yield spark


@pytest.fixture(scope="module")
def remote(cluster: LocalSpark) -> str:
    return cluster.connect_server()


@pytest.fixture
def source(tmp_path: Path) -> TableRef:
    words = ("grain", "bank")
    texts = [f"{words[row % 2]} {row % 1700} é" for row in range(ROWS)]
    rows = pa.table({"id": range(ROWS), "text": texts, "topic": [words[row % 2] for row in range(ROWS)]})
    for start in range(0, ROWS, ROWS // 2):  # two files: tasks for both workers
        write_deltalake(str(tmp_path / "in"), rows.slice(start, ROWS // 2), mode="append")
    return TableRef(uri=str(tmp_path / "in"), version=1)


def on(settings: Settings, remote: str | None) -> Settings:
    return dataclasses.replace(settings, spark_remote=remote)


def scoring(source: TableRef, bundle: tuple[Path, ModelRef], to: Path) -> ScoreTableRequest:
    return ScoreTableRequest(
        table=source,
        model=bundle[1],
        bundle=str(bundle[0]),
        text="text",
        answer_type="string",
        keep=("id",),
        to=str(to),
        transaction="k",
    )


def rows_of(table: TableRef) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = read_arrow(table).sort_by("id").to_pylist()
    return found


def test_spark_submit_runs_the_job_where_there_is_no_connect_server(
    cluster: LocalSpark,
    source: TableRef,
    bundle: tuple[Path, ModelRef],
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in cluster.environment().items():
        monkeypatch.setenv(name, value)
    # No Connect server runs yet: each worker has one core of this application.
    here = run_job(scoring(source, bundle, tmp_path / "embedded"), settings=on(settings, None))
    asked = scoring(source, bundle, tmp_path / "submitted")
    there = cluster.kill_in(
        lambda: run_job(asked, settings=on(settings, cluster.url)), writes=tmp_path / "submitted"
    )
    assert "Lost executor" in capsys.readouterr().err
    assert (there.rows, there.predictions) == (here.rows, here.predictions)
    assert rows_of(there.table) == rows_of(here.table)


@pytest.mark.parametrize("name", ["decided", "scored", "built"])
def test_a_job_that_loses_a_worker_makes_the_same_tables(
    cluster: LocalSpark,
    remote: str,
    source: TableRef,
    bundle: tuple[Path, ModelRef],
    settings: Settings,
    tmp_path: Path,
    name: str,
) -> None:
    def asked(to: Path) -> JobRequest[Any]:
        if name == "scored":
            return scoring(source, bundle, to)
        if name == "built":
            return BuildDatasetRequest(table=source, options=OPTIONS, to=str(to), transaction="k")
        pinned = pin_rule_set(parse_rule_set(RULES.replace("MODEL", str(bundle[0]))), settings)
        decider = table_decider(pinned, source, settings)
        return DecideTableRequest(table=source, decider=decider, to=str(to), transaction="k")

    here: Any = run_job(asked(tmp_path / "embedded"), settings=on(settings, None))
    job = functools.partial(run_job, asked(tmp_path / "cluster"), settings=on(settings, remote))
    lost = cluster.log("connect").count("Lost executor")
    there = cluster.kill_in(job, writes=tmp_path / "cluster")
    assert cluster.log("connect").count("Lost executor") > lost
    if name != "built":
        assert len(rows_of(there.table)) == ROWS
        assert rows_of(there.table) == rows_of(here.table)
        return
    assert there.build.summary == here.build.summary  # the content hash is in it
    assert there.build.fates == here.build.fates
    assert there.build.summary.rows < ROWS
    for one in ("dataset", "duplicates"):
        tables = [read_arrow(getattr(made, one)) for made in (here, there)]
        order = [(column, "ascending") for column in tables[0].column_names]
        assert tables[0].sort_by(order) == tables[1].sort_by(order), one


def test_an_error_names_what_workers_lack(remote: str, settings: Settings) -> None:
    def work(batches: Any) -> Any:
        importlib.import_module("modelmill_of_next_year")
        yield from batches

    with pytest.raises(ConfigError) as caught, session(on(settings, remote)) as spark:
        spark.range(3).mapInArrow(work, "id bigint").collect()
    assert "No module named 'modelmill_of_next_year'" in str(caught.value)
    assert "spark.pyspark.python" in str(caught.value)
