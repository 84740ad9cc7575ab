"""A step that is killed again and again ends in the tables of one that was not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from random import Random
from typing import Any

import pytest
from demo.servers.language_model import Behaviour, LanguageModelStub

from modelmill.artifacts import TableRef
from modelmill.tables.reading import read_arrow
from modelmill.tables.versions import resolve_table

WORKER = """
import json, sys
from pathlib import Path
from modelmill.artifacts import TableRef
from modelmill.language_models.endpoint import Endpoint
from modelmill.language_models.places import Remote
from modelmill.language_models.labelling import label_by_llm
from modelmill.language_models.labelling_task import LlmLabelling
from modelmill.language_models.options import LlmLabellingOptions
from modelmill.workspace import Workspace

place, url, table = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
options = LlmLabellingOptions.model_validate(json.loads(sys.argv[4]))
work, cache = place / "work", place / "cache"
for folder in (work, cache):
    folder.mkdir(parents=True, exist_ok=True)
labelled = label_by_llm(
    LlmLabelling(
        table=TableRef(uri=table, version=0), options=options, to=str(place / "to"),
        answers=str(place / "answers"), limits=place / "limits", transaction="one",
    ),
    workspace=Workspace(workdir=work, cache=cache, log=lambda line: None),
    place=Remote(Endpoint(url)),
)
(place / "report.json").write_text(labelled.report.model_dump_json())
"""

OPTIONS = {
    "labels": {"sport": "games and clubs", "trade": "banks and markets"},
    "columns": ["body"],
    "label": "topic",
    "gold": "gold",
    "asking": {"model": "stub-2026-11-01", "concurrency": 4, "timeout_seconds": 5, "attempts": 12},
    "budget": {"tokens": 10_000_000},
    "pilot_rows": 10,
}


SIGNALS = {
    "topic": {"labels": OPTIONS["labels"], "gold": "gold"},
    "tone": {"labels": {"goal": "", "share": ""}},
}
SEVERAL = {name: value for name, value in OPTIONS.items() if name not in ("labels", "label", "gold")}


def start(place: Path, url: str, news: TableRef, options: dict[str, Any]) -> subprocess.Popen[bytes]:
    arguments = [str(place), url, news.uri, json.dumps(options)]
    return subprocess.Popen([sys.executable, "-c", WORKER, *arguments], stderr=subprocess.PIPE)


@pytest.mark.parametrize("options", [OPTIONS, {**SEVERAL, "signals": SIGNALS}], ids=["one", "several"])
def test_killed_steps_end_in_the_same_tables(options: dict[str, Any], tmp_path: Path, news: TableRef) -> None:
    words = {"sport": ["goal", "match", "team"], "trade": ["bank", "share", "price"]}
    random = Random(1)
    faults = Behaviour(words=words, busy=0.05, lost=0.05, without_usage=0.1, seconds=0.03, seed=2)
    with LanguageModelStub(faults) as stub:
        kills = 0
        for after in (0, 20, 50):
            worker = start(tmp_path / "killed", stub.url, news, options)
            while stub.bill.billed < after + random.randint(1, 15) and worker.poll() is None:
                time.sleep(0.01)
            kills += worker.poll() is None
            os.kill(worker.pid, signal.SIGKILL)
            worker.communicate()
        last = start(tmp_path / "killed", stub.url, news, options)
        _, said = last.communicate(timeout=120)
        assert last.returncode == 0, said.decode()
        assert kills == 3
        bill = json.loads((tmp_path / "killed/report.json").read_text())["bill"]
        assert stub.bill.billed_input + stub.bill.billed_output <= bill["accounted"]
        again = sum(stub.bill.contents.values()) - len(stub.bill.contents)
        assert again <= bill["lost"] + kills * 4
    with LanguageModelStub(Behaviour(words=words)) as stub:
        clean = start(tmp_path / "clean", stub.url, news, options)
        _, said = clean.communicate(timeout=120)
        assert clean.returncode == 0, said.decode()
    for name in ("to", "to_disagreements"):
        found, expected = (
            read_arrow(resolve_table(str(tmp_path / run / name))) for run in ("killed", "clean")
        )
        assert found.equals(expected)
    answers = [
        read_arrow(resolve_table(str(tmp_path / run / "answers"))).sort_by("key")
        for run in ("killed", "clean")
    ]
    # Usage and cost may differ: an answer without usage is accounted at its worst case.
    kept = [name for name in answers[0].column_names if "token" not in name and name != "cost"]
    assert answers[0].select(kept).equals(answers[1].select(kept))
