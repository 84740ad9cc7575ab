"""What labels from rules are worth on Reuters R8, and how many flipped labels are found.

::

    ./run python -m benchmarks.labels_from_rules

About two minutes, most of them for the first download. The rules are those of ``reuters_labels.yaml``.
"""

from __future__ import annotations

import json
import random
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from deltalake import write_deltalake
from demo.samples import prepare

from modelmill.artifacts import TableRef
from modelmill.labels.label_errors import find_label_errors, judged_rows, out_of_fold_probabilities
from modelmill.labels.labelling import LabelRowsRequest
from modelmill.pipeline.validation import load_pipeline
from modelmill.settings import Settings
from modelmill.spark import session
from modelmill.steps.label_rows import LabelRowsConfig
from modelmill.tables.reading import read_arrow
from modelmill.tasks.baselines import TFIDF_SVM
from modelmill.tasks.class_metrics import ACCURACY, MACRO_F1
from modelmill.tasks.kinds import task_of
from modelmill_jobs import label_rows

GOLD_ROWS = 100
GOLD_SAMPLES = 10

Rows = Sequence[tuple[str, str]]


def main() -> None:
    data, _ = prepare(Settings.from_environment().home)
    train, test = (read(data / f"landing/reuters_r8/{split}.jsonl") for split in ("train", "test"))
    with tempfile.TemporaryDirectory() as folder:
        measure_labels(train, test, Path(folder))
    measure_label_errors(train)


def read(path: Path) -> Rows:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [(row["topic"], row["text"]) for row in rows]


def measure_labels(train: Rows, test: Rows, folder: Path) -> None:
    pipeline = load_pipeline(str(Path(__file__).with_name("reuters_labels.yaml")))
    config = LabelRowsConfig.model_validate(pipeline.steps["labelled"].config)
    with session() as spark:
        for name in ("majority_vote", "weighted"):
            began = time.process_time()
            report, rows = labelled(spark, train, folder / name, config, name, seed=0)
            print(f"\n{name}: {time.process_time() - began:.1f} CPU s")
            show_labels(report, rows, train)
            trained(name, [(row["topic"], row["text"]) for row in rows if row["topic"]], test)
        show_functions(report)
        print(f"\n{GOLD_SAMPLES} samples of {GOLD_ROWS} gold rows:")
        for seed in range(GOLD_SAMPLES):
            report, _ = labelled(spark, train, folder / str(seed), config, "best", seed=seed)
            found = report["difference"]
            print(
                f"  {report['model']}; weighted minus majority vote "
                f"{found['value']:+.3f} ({found['low']:+.3f} to {found['high']:+.3f})"
            )
    print()
    gold = [train[row] for row in gold_rows(train, seed=0)]
    trained(f"the {GOLD_ROWS} gold rows alone", gold, test)
    trained("all labels by hand", train, test)


def gold_rows(train: Rows, *, seed: int) -> list[int]:
    return random.Random(seed).sample(range(len(train)), GOLD_ROWS)


def labelled(
    spark: Any, train: Rows, folder: Path, config: LabelRowsConfig, name: str, *, seed: int
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    gold = set(gold_rows(train, seed=seed))
    columns = {
        "id": list(range(len(train))),
        "text": [text for _, text in train],
        "topic": [topic if row in gold else None for row, (topic, _) in enumerate(train)],
    }
    write_deltalake(str(folder / "in"), pa.table(columns))
    request = LabelRowsRequest(
        table=TableRef(uri=str(folder / "in"), version=0),
        options=config.model_copy(update={"model": name}),
        to=str(folder / "out"),
    )
    result = label_rows.main(request, spark)
    return result.report.model_dump(), read_arrow(result.table).sort_by("id").to_pylist()


def show_labels(report: dict[str, Any], rows: list[dict[str, Any]], train: Rows) -> None:
    by_rule = [row for row in rows if row["topic_source"] == "rule"]
    right = ACCURACY.of([train[row["id"]][0] for row in by_rule], [row["topic"] for row in by_rule])
    print(f"  coverage {report['coverage']:.1%}, conflicts {report['conflicts']:.1%}")
    print(f"  labels for {len(by_rule) / len(rows):.1%} of the rows, {right:.2%} of them right")
    for model in report["models"]:
        found = model["accuracy"]
        shown = f"{found['value']:.1%} ({found['low']:.1%} to {found['high']:.1%})"
        print(f"  on {found['rows']} gold rows with a vote: {model['name']} {shown}")


def show_functions(report: dict[str, Any]) -> None:
    for one in report["functions"]:
        gold = one["gold_accuracy"] or {"value": float("nan"), "rows": 0}
        print(
            f"    {one['name']:14} {one['label']:9} coverage {one['coverage']:.3f}"
            f"  learnt {one['learnt_accuracy']:.2f}  gold {gold['value']:.2f} of {gold['rows']}"
        )


def trained(name: str, rows: Rows, test: Rows) -> None:
    texts, labels = [text for _, text in rows], [topic for topic, _ in rows]
    found = task_of("class").baselines(texts, np.array(labels, dtype=object), [text for _, text in test])
    baseline, answers = next(item for item in found.items() if item[0].startswith(TFIDF_SVM))
    truth = [topic for topic, _ in test]
    accuracy = ACCURACY.interval(truth, answers)
    macro = MACRO_F1.interval(truth, answers)
    print(
        f"  {baseline} on {name} ({len(rows):,} rows): test accuracy {accuracy.value:.2%} "
        f"({accuracy.low:.2%} to {accuracy.high:.2%}), macro-F1 {macro.value:.2%}"
    )


def measure_label_errors(train: Rows) -> None:
    draw = random.Random(0)
    classes = sorted({topic for topic, _ in train})
    flipped = set(draw.sample(range(len(train)), len(train) // 20))
    labels = [
        draw.choice([name for name in classes if name != topic]) if row in flipped else topic
        for row, (topic, _) in enumerate(train)
    ]
    began = time.process_time()
    judged = judged_rows(labels, folds=5)
    known = [labels[row] for row in judged]
    probabilities = out_of_fold_probabilities([train[row][1] for row in judged], known, folds=5)
    found = [judged[row] for row in find_label_errors(known, probabilities, sorted(set(known)))]
    seconds = time.process_time() - began
    print(
        f"\n{len(flipped)} flipped labels among {len(train):,}: {len(found)} suspicious, {seconds:.1f} CPU s"
    )
    for most in (len(flipped) // 2, len(flipped), len(found)):
        hits = len(set(found[:most]) & flipped)
        print(f"  top {most}: precision {hits / most:.1%}, recall {hits / len(flipped):.1%}")


if __name__ == "__main__":
    main()
