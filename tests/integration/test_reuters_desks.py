"""The shipped pipeline with groups and conditions, run by ``modelmill run`` on a few rows and a tiny model.

One topic's words are in the model's vocabulary and the other one's are not. The baselines see them all the
same, so that topic's head is refused, and it gets a model of its own.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from modelmill.registry.ledger import entries
from modelmill.settings import Settings

SHIPPED = Path(__file__).parents[2] / "dags" / "pipelines" / "reuters_desks.yaml"
IN_GROUP = ("labelled", "dataset", "heads", "head", "verdict")
OF_ITS_OWN = ("own", "exported", "own_verdict")


@pytest.fixture(name="data")
def _data(tmp_path: Path, topic_rows: Callable[..., list[tuple[str, str]]]) -> Path:
    landing = tmp_path / "data" / "landing" / "reuters_r8"
    landing.mkdir(parents=True)
    for split, count in (("train", 300), ("test", 120)):
        with (landing / f"{split}.jsonl").open("w") as file:
            for number, (text, word) in enumerate(topic_rows(count, seed=count)):
                other = ("crude", "ship")[number // 2 % 2]
                topic, said = ("grain", text) if word == "sport" else (other, f"{text} {other}er")
                row = {"id": f"{split}-{number}", "text": f"{said} {number}", "topic": topic, "split": split}
                file.write(json.dumps(row) + "\n")
    return tmp_path / "data"


def test_the_refused_topic_gets_a_model_of_its_own_and_the_accepted_one_does_not(
    data: Path, settings: Settings, tiny_base_model: Path, tmp_path: Path
) -> None:
    text = SHIPPED.read_text().replace("[acq, crude, grain]", "[crude, grain]")
    text = text.replace('{base_model: "${base_model}"}', '{base_model: "${base_model}", max_tokens: 64}')
    (tmp_path / "desks.yaml").write_text(text)
    values = {"data": data, "base_model": tiny_base_model, "epochs": 1}
    given = [part for name, value in values.items() for part in ("--param", f"{name}={value}")]
    command = [sys.executable, "-m", "modelmill", "run", str(tmp_path / "desks.yaml"), *given]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    states = dict(re.findall(r"^\[\d+/22\] (\w+): (done|skipped)", done.stdout, re.MULTILINE))
    ran = {name for name, state in states.items() if state == "done"}
    assert len(states) == 22
    assert ran >= {f"{step}__{topic}" for step in IN_GROUP for topic in ("crude", "grain")}
    assert ran >= {"champion__grain", *(f"{step}__crude" for step in OF_ITS_OWN)}
    assert not ran & {"champion__crude", *(f"{step}__grain" for step in (*OF_ITS_OWN, "own_champion"))}
    assert (
        "champion__crude: skipped: reuters_desk_crude was refused, and this step runs if it is accepted"
        in done.stdout
    )
    assert "exported__grain: skipped: own__grain was skipped" in done.stdout
    assert [row.model for row in entries(settings) if row.to_version] == ["reuters_desk_grain"]
