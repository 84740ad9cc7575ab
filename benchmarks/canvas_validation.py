"""How long a pipeline of 500 steps takes to be checked: ``python benchmarks/canvas_validation.py``.

CPU time of one process, so that other work on the machine does not count.
"""

from __future__ import annotations

import statistics
import time
from typing import Any

import yaml

from modelmill.documents.parsing import parse_document
from modelmill.errors import PipelineError
from modelmill.pipeline.validation import check_document, parse_pipeline

STEPS = 500
ROUNDS = 20
GROUP = 5
"""Steps of a dataset with two trained models, one of them quantised."""


def pipeline_of(steps: int) -> str:
    """Return a pipeline's text with so many steps, nobody's run.

    :param steps: a multiple of five.
    :return: YAML.
    """
    made: dict[str, Any] = {}
    for number in range(steps // GROUP):
        dataset = {"dataset": f"dataset_{number}.dataset"}
        made |= {
            f"raw_{number}": {"component": "delta_table", "config": {"uri": f"/data/table_{number}"}},
            f"dataset_{number}": {
                "component": "build_dataset",
                "inputs": {"table": f"raw_{number}.table"},
                "config": {"key": "id", "text": "text", "labels": ["topic"]},
            },
            f"teacher_{number}": {
                "component": "fine_tune",
                "inputs": dataset,
                "config": {"base_model": "/models/large", "epochs": 1.5},
            },
            f"student_{number}": {
                "component": "distill",
                "inputs": {**dataset, "teacher": f"teacher_{number}.model"},
                "config": {"layers": 2},
            },
            f"exported_{number}": {
                "component": "quantize",
                "inputs": {**dataset, "model": f"student_{number}.model"},
            },
        }
    return str(yaml.safe_dump({"pipeline": "large", "steps": made}, sort_keys=False))


def main() -> None:
    """Print the medians, in milliseconds."""
    text = pipeline_of(STEPS)
    document = parse_document(text, source="large", error=PipelineError).content
    parse_pipeline(text)  # components are imported once
    whole, checking = [], []
    for _ in range(ROUNDS):
        began = time.process_time()
        parse_pipeline(text)
        whole.append(time.process_time() - began)
        began = time.process_time()
        check_document(document)
        checking.append(time.process_time() - began)
    print(f"{STEPS} steps, {len(text):,} characters, medians of {ROUNDS}, CPU time")
    print(f"read and checked: {statistics.median(whole) * 1e3:.0f} ms")
    print(f"checked alone:    {statistics.median(checking) * 1e3:.0f} ms")


if __name__ == "__main__":
    main()
