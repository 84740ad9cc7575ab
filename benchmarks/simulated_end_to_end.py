"""From 100 gold rows of Reuters R8 and 1,200 answers of a simulated language model to a small model.

``python -m benchmarks.simulated_end_to_end FOLDER`` labels the train rows by the component's own code against
a stub that answers as the teacher of ``simulated_teacher.py`` (**true labels, of which 8 % are wrong; no
language model is behind it**) and bills the encoder's tokens. It writes the table with the standard test
split. ``python -m modelmill run benchmarks/simulated_teacher.yaml --param home=FOLDER --param base_model=…``
makes the small model of it, and judges that.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
from benchmarks.simulated_teacher import Corpus, corpus, taught, tokenizer
from deltalake import DeltaTable, write_deltalake
from demo.servers.language_model import LanguageModelStub

from modelmill.artifacts import TableRef
from modelmill.language_models.endpoint import Endpoint
from modelmill.language_models.labelling import label_by_llm
from modelmill.language_models.labelling_task import LlmLabelling
from modelmill.language_models.options import LlmLabellingOptions
from modelmill.language_models.places import Remote
from modelmill.tables.reading import read_arrow
from modelmill.workspace import Workspace

GOLD, ROWS = 100, 1000
"""Gold rows are asked in two orders of the labels: 1,200 answers."""


class SimulatedTeacher(LanguageModelStub):
    """Answers with the simulated teacher's labels, and bills a real tokenizer's tokens."""

    def __init__(self, one: Corpus) -> None:
        super().__init__()
        self._said = dict(zip(one.texts, one.said.tolist(), strict=True))

    def chosen(self, options: object, content: str) -> str:  # noqa: ARG002 (as the stub's)
        """See :meth:`LanguageModelStub.chosen`."""
        return str(self._said[content])

    def input_tokens(self, body: bytes) -> int:
        """See :meth:`LanguageModelStub.input_tokens`."""
        return len(tokenizer().encode(body.decode()).ids)


def labelled(one: Corpus, folder: Path) -> pa.Table:
    """Label the train rows."""
    gold = np.zeros(len(one.texts), dtype=bool)
    gold[np.random.default_rng(0).permutation(len(gold))[:GOLD]] = True
    columns = {
        "id": [f"train-{number}" for number in range(len(gold))],
        "text": one.texts,
        "by_hand": [str(topic) if known else None for topic, known in zip(one.topics, gold, strict=True)],
    }
    write_deltalake(str(folder / "raw"), pa.table(columns), mode="overwrite")
    options = LlmLabellingOptions.model_validate(
        {
            "labels": dict.fromkeys(map(str, np.unique(one.topics)), ""),
            "label": "topic",
            "gold": "by_hand",
            "columns": ["text"],
            "asking": {"model": "simulated-2026-11-30", "concurrency": 4},
            "budget": {"tokens": 2_000_000},
            "select": {"rows": ROWS},
        }
    )
    labelling = LlmLabelling(
        table=TableRef(uri=str(folder / "raw"), version=DeltaTable(str(folder / "raw")).version()),
        options=options,
        to=str(folder / "by_llm"),
        answers=str(folder / "answers"),
        limits=folder / "limits",
        transaction=f"simulated-{time.time_ns()}",
    )
    with Workspace.temporary() as workspace, SimulatedTeacher(one) as stub:
        found = label_by_llm(labelling, workspace=workspace, place=Remote(Endpoint(stub.url)))
    report, billed = found.report, stub.bill.billed_input + stub.bill.billed_output
    assert report.forecast is not None
    forecast = report.forecast.spent + report.forecast.cost
    print(f"{stub.bill.billed:,} answers, {billed:,} tokens billed; forecast {forecast / billed - 1:+.1%}")
    return read_arrow(found.table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder.absolute()
    began, one = time.process_time(), corpus("reuters_r8")
    table = labelled(one, folder).select(["id", "text", "topic", "topic_source", "topic_answer"])
    counts = len(one.texts), len(one.test_texts)
    said = taught(one.test_texts, one.test_topics, one.test_features, seed=2)
    test = pa.table(
        {
            "id": [f"test-{number}" for number in range(counts[1])],
            "text": one.test_texts,
            "topic": one.test_topics.tolist(),
            "topic_source": ["gold"] * counts[1],
            "topic_answer": said.tolist(),
        }
    )
    split = pa.array(["train"] * counts[0] + ["test"] * counts[1])
    both = pa.concat_tables([table, test.cast(table.schema)]).append_column("split", split)
    write_deltalake(str(folder / "labelled"), both, mode="overwrite")
    write_deltalake(str(folder / "texts"), pa.table({"text": one.texts}), mode="overwrite")
    right = float((said == one.test_topics).mean())
    known = sum(value is not None for value in table.column("topic").to_pylist())
    seconds = time.process_time() - began
    print(f"{known:,} labels; the teacher is right on {right:.2%} of the test rows; {seconds:.0f} CPU s")


if __name__ == "__main__":
    main()
