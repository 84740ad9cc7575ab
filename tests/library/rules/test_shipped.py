"""The rule sets beside the pipelines load."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from modelmill.artifacts import TableRef
from modelmill.pipeline.validation import load_pipeline
from modelmill.rules.reading import load_rule_set
from modelmill.videos.duplicate_request import DISTANCE, GROUP, RELATION, TWIN
from modelmill.videos.requests import MeasureVideosRequest, ProbeVideosRequest
from modelmill.videos.rows import Kept, result_schema

DAGS = Path(__file__).parents[3] / "dags"
TEXTS = pa.schema([("id", pa.string()), ("text", pa.string()), ("topic", pa.string())])


def measured_videos() -> pa.Schema:
    """Return the columns that the pipeline ``video_nightly`` hands to its rules."""
    places = {"table": TableRef(uri="/clips", version=0), "to": "/made", "quarantine": "/refused"}
    probed = result_schema(ProbeVideosRequest.model_validate(places), Kept((), {}))
    keep = load_pipeline(str(DAGS / "pipelines/video_nightly.yaml")).steps["measured"].config["keep"]
    measured = MeasureVideosRequest.model_validate({**places, "keep": keep})
    found = result_schema(measured, Kept(tuple(probed.field(name) for name in keep), {}))
    for name in (GROUP, TWIN, DISTANCE, RELATION):
        found = found.append(pa.field(name, pa.float64() if name == DISTANCE else pa.string()))
    return found


@pytest.mark.parametrize("path", sorted((DAGS / "rules").glob("*.yaml")), ids=lambda path: path.stem)
def test_a_shipped_rule_set_loads(path: Path) -> None:
    schema = measured_videos() if path.stem == "video_quality" else TEXTS
    rule_set = load_rule_set(str(path), schema=schema)
    assert len(rule_set.signals) >= 20
