"""Pruning by itself: what heads and inner units cost in accuracy, and what they give in size and speed.

``./run python -m benchmarks.pruning`` fine-tunes a teacher on a corpus (or reuses that of
``benchmarks.compress``), distils a student, prunes it in several ways with and without recovery, quantises
each model, and measures the exported files side by side on the test split, in CPU seconds of one thread.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks.compress import Steps
from demo.samples import CORPORA, prepare

from modelmill.artifacts import ModelRef
from modelmill.evaluation.results import EvaluationReport
from modelmill.registry.tracking import tracking_client
from modelmill.settings import Settings

_MOVES: dict[str, list[dict[str, Any]]] = {
    "inner units 0.25": [{"method": "inner_units", "keep": 0.25}],
    "inner units 0.25, heads 0.5": [
        {"method": "inner_units", "keep": 0.25},
        {"method": "heads", "keep": 0.5},
    ],
}
_IMPORTANCE = ("taylor", "activation")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--corpus", choices=sorted(CORPORA), default="reuters-r8")
    parser.add_argument("--layers", type=int, default=2, help="layers of the student")
    parser.add_argument("--epochs", type=float, default=1.0, help="of the student, and of the recovery")
    options = parser.parse_args()
    settings = Settings.from_environment()
    data, base_model = prepare(settings.home)
    steps = Steps(settings, f"compress_{options.corpus.replace('-', '_')}")
    dataset, teacher = steps.teacher(options.corpus, data, base_model)
    epochs = {"epochs": options.epochs}
    student = steps.run("distill", {"layers": options.layers, **epochs}, dataset=dataset, teacher=teacher)[
        "model"
    ]
    models: dict[str, ModelRef] = {"teacher": teacher, "student": student}
    for name, moves in _MOVES.items():
        for kind in _IMPORTANCE:
            for recovery in (0.0, options.epochs):
                config = {"moves": moves, "importance": {"kind": kind}, "epochs": recovery}
                pruned = steps.run("prune", config, dataset=dataset, model=student, teacher=teacher)["model"]
                models[f"{name}, {kind}, {recovery:g} epochs"] = pruned
    exported = {
        f"{name}, int8": steps.run("quantize", {"max_drift": 1.0}, dataset=dataset, model=model)["model"]
        for name, model in models.items()
        if name != "teacher"
    }
    shown = {"teacher": teacher, **exported}
    report = steps.run("evaluate", {"baselines": False}, dataset=dataset, models=tuple(shown.values()))[
        "report"
    ]
    client = tracking_client(settings.tracking_uri)
    path = Path(client.download_artifacts(report.run_id, "report.json"))
    found = EvaluationReport.from_json(json.loads(path.read_text()))
    print("| model | test accuracy | MB | smaller | documents per CPU second | faster |")
    print("| --- | --- | --- | --- | --- | --- |")
    first = found.models[0].documents_per_cpu_second
    for name, model in zip(shown, found.models, strict=True):
        print(
            f"| {name} | {model['accuracy'].value:.2%} | {model.size_mb:.1f} | {model.size_ratio:.1f} | "
            f"{model.documents_per_cpu_second:,.0f} | {model.documents_per_cpu_second / first:.1f} |"
        )


if __name__ == "__main__":
    main()
