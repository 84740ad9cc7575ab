"""A kind of signal and a measure of another distribution: validated, offered, planned, run, explained."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from typer.testing import CliRunner

from modelmill.cli.main import app
from modelmill.errors import RuleSetError
from modelmill.rules.engine import Engine
from modelmill.rules.reading import parse_rule_set
from modelmill_plugin.routes.rule_set_files import rule_language

RULES = """
rule_set: photos
key: id
signals:
  bright: {kind: brightness, column: photo, bands: 2}
  sharp: {kind: measured, function: sharpness, columns: [photo], options: {distance: 2}}
  photo: {kind: column}
rules:
  - {name: missing, when: photo IS NULL, then: ask}
  - {name: dark, when: bright < 0.25, then: reject, reason: "brightness {bright:.2f}"}
  - {name: blurred, when: bright < 0.9 AND sharp < 0.05, then: retake}
default: keep
"""


def photo(image: npt.NDArray[np.int64]) -> bytes:
    height, width = image.shape
    return f"P5 {width} {height} 255\n".encode() + image.astype(np.uint8).tobytes()


def rows() -> pa.RecordBatch:
    dark, grey, stripes = np.full((4, 6), 20), np.full((4, 6), 128), np.zeros((4, 6), np.int64)
    dark[2:] = 40
    stripes[:, ::3] = 250
    photos = [photo(dark), photo(grey), photo(stripes), None, b"GIF89a"]
    return pa.RecordBatch.from_pydict({"id": list("abcde"), "photo": pa.array(photos, pa.binary())})


BRIGHT, SHARP = "5:3: signals.bright: ", "6:3: signals.sharp: "
BANDS, DISTANCE = "5:45: signals.bright.", "6:76: signals.sharp.options."


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("bands: 2", "rows: 2", f"{BANDS}rows: unknown key; got 'rows'; allowed: "),
        ("n: photo, b", "n: a_url, b", f"{BRIGHT}a photo is bytes, not an address; got 'a_url'; name a "),
        ("bands: 2", "bands: 9", f"{BANDS}bands: 'bands' must be at most 8; got 9"),
        (
            "brightness, c",
            "britness, c",
            f"{BRIGHT}a signal's kind must be known; got 'britness'; did you mean",
        ),
        (
            "photo, b",
            "foto, b",
            f"{BRIGHT}the column of signal 'bright' must be in the input; got 'foto'; did",
        ),
        (
            "photo, b",
            "id, b",
            f"{BRIGHT}the column of signal 'bright' must be of kind bytes; got 'id: string'",
        ),
        (
            "bright < 0.25",
            "bright = 'x'",
            "10:18: rules.1.when: 1:1: = takes values of one kind; got a number",
        ),
        (
            "distance: 2",
            "distanc: 2",
            f"{DISTANCE}distanc: an option must be known; did you mean 'distance'?",
        ),
        ("distance: 2", "distance: 0", f"{DISTANCE}distance: 'distance' must be at least 1"),
        ("columns: [photo]", "columns: [id]", f"{SHARP}the column of signal 'sharp' must be of kind bytes"),
    ],
)
def test_they_are_validated_with_positions(old: str, new: str, said: str) -> None:
    with pytest.raises(RuleSetError) as caught:
        parse_rule_set(RULES.replace(old, new), schema=rows().schema)
    assert any(str(problem).startswith(said) for problem in caught.value.problems), caught.value.report


def test_the_command_line_validates_them(tmp_path: Path) -> None:
    path = tmp_path / "photos.yaml"
    path.write_text(RULES)
    shown = CliRunner().invoke(app, ["rules", "validate", str(path)])
    assert "3 signals, 3 rules" in shown.output, shown.output


def test_the_canvas_is_offered_their_forms() -> None:
    language = rule_language()
    kind = next(kind for kind in language.kinds if kind.name == "brightness")
    assert kind.title == "Brightness of a photo"
    assert kind.help.startswith("How bright")
    assert kind.config_schema["properties"]["column"]["format"] == "column"
    assert kind.config_schema["properties"]["bands"]["maximum"] == 8
    measure = next(measure for measure in language.measures if measure.name == "sharpness")
    assert (measure.help, measure.operands) == (
        "Mean difference of neighbouring pixels, from 0 to 1.",
        ["bytes"],
    )
    measured = next(kind for kind in language.kinds if kind.name == "measured").config_schema
    forms = {
        one["properties"]["function"]["const"]: one["properties"]["options"]
        for one in measured["dependencies"]["function"]["oneOf"]
    }
    assert forms["sharpness"]["properties"]["distance"]["minimum"] == 1
    assert json.loads(language.model_dump_json())  # it is an answer of the API


def test_they_are_planned_and_run() -> None:
    batch = rows()
    engine = Engine(parse_rule_set(RULES, schema=batch.schema), batch.schema)
    engine.use(engine.measure_plan(batch))
    assert {stage.group for stage in engine.plan.stages} == {"columns", "brightness bright", "measure sharp"}
    found = engine.decide(batch, explain=True)
    assert found.column("decision").to_pylist() == ["reject", "retake", "keep", "ask", "keep"]
    assert found.column("reason")[0].as_py() == "brightness 0.16"
    alone = [engine.decide(batch.slice(row, 1)).column("decision")[0].as_py() for row in range(5)]
    assert alone == found.column("decision").to_pylist()


def test_they_are_explained_with_evidence() -> None:
    batch = rows()
    engine = Engine(parse_rule_set(RULES, schema=batch.schema), batch.schema)
    dark, *_, broken = (row["explanation"] for row in engine.decide(batch, explain=True).to_pylist())
    bright = next(one for one in dark["signals"] if one["signal"] == "bright")
    assert bright["number"] == pytest.approx(40 / 255)
    assert (bright["region"], bright["version"], bright["sufficient"]) == ("below 0.25", "brightness 1", True)
    (box,) = (one for one in dark["evidence"] if one["signal"] == "bright")
    assert (box["column"], box["box"]) == ("photo", [0, 2, 6, 4])
    failed = next(one for one in broken["signals"] if one["signal"] == "bright")
    assert failed["unknown"] == "ValueError: a photo must be a grey PGM image of 8 bits"
