"""What a step has read is told from what it has made, whatever its ports say."""

from __future__ import annotations

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from modelmill.artifacts import ModelRef, TableRef, VerdictRef
from modelmill.pipeline.catalogue import component_named
from modelmill.pipeline.request import StepRequest
from modelmill.pipeline.runner import run_step
from modelmill.pipeline.table_uses import uses
from modelmill.settings import Settings
from modelmill.steps.delta_table import DeltaTableConfig
from modelmill.steps.score_table import ScoreTableConfig
from modelmill.steps.use_champion import UseChampionConfig
from modelmill.tables.versions import resolve_table

TABLE = TableRef(uri="/lake/tickets", version=3)
MODEL = ModelRef(uri="models:/topics/2", run_id="r", digest="d", format="onnx", role="exported")
VERDICT = VerdictRef(
    passed=True,
    name="topics",
    challenger=MODEL,
    champion_version=None,
    reasons=(),
    uri="runs:/r/verdict.json",
    run_id="r",
)


def test_a_table_that_is_looked_up_is_read() -> None:
    component = component_named("delta_table")
    for uri in ("/lake/tickets", "/lake/tickets/", "file:///lake/tickets"):
        found = uses(component, DeltaTableConfig(uri=uri), {}, {"table": TABLE})
        assert (found.read, found.made) == ((TABLE,), ())
    other = uses(component, DeltaTableConfig(uri="/lake/others"), {}, {"table": TABLE})
    assert (other.read, other.made) == ((), (TABLE,))


def test_a_champion_is_read_and_a_verdict_that_is_handed_on_is_not_made() -> None:
    champion = uses(component_named("use_champion"), UseChampionConfig(name="topics"), {}, {"model": MODEL})
    assert (champion.read, champion.made) == ((MODEL,), ())
    approved = uses(component_named("approve"), None, {"verdict": VERDICT}, {"verdict": VERDICT})
    assert (approved.read, approved.made) == ((VERDICT,), ())


def test_what_is_written_is_made_and_several_inputs_are_each_read_once() -> None:
    scored = TableRef(uri="/lake/scored", version=0)
    component = component_named("score_table")
    config = ScoreTableConfig(to="/lake/scored")
    found = uses(component, config, {"table": TABLE, "model": (MODEL, MODEL)}, {"table": scored})
    assert (found.read, found.made) == ((TABLE, MODEL), (scored,))


def test_a_step_describes_its_tables_only_if_it_is_asked(settings: Settings) -> None:
    uri = str(settings.home.parent / "lake" / "tickets")
    write_deltalake(uri, pa.table({"text": ["a", "b"]}))
    request = StepRequest(pipeline="p", step="raw", component="delta_table", config={"uri": uri})
    quiet = run_step(request, settings)
    assert (quiet.tables, quiet.figures) == ((), {})
    asked = request.model_copy(update={"step": "again", "pipeline": "q", "describe": True})
    told = run_step(asked, settings)
    (table,) = told.tables
    assert (table.uri, table.version, [one.name for one in table.columns]) == (uri, 0, ["text"])
    assert told.figures["used/seconds"] > 0
    assert told.step_key == quiet.step_key
    assert {"tables", "figures", "outputs"}.isdisjoint(told.to_keep())
    reused = run_step(asked, settings)
    assert (reused.reused, reused.tables, reused.figures) == (True, told.tables, {})
    assert resolve_table(uri).version == 0


def test_a_step_is_done_though_its_tables_cannot_be_described(
    toy_components: None, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    config = {"journal": str(settings.home.parent / "journal")}  # it yields a table that is not there
    result = run_step(
        StepRequest(pipeline="p", step="a", component="count", config=config, describe=True), settings
    )
    assert result.tables == ()
    assert "a: its tables are not described: the table must exist" in capsys.readouterr().out
