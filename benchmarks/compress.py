"""Compression under a budget: what is found, what it costs, and whether the budget holds on new rows.

``./run python -m benchmarks.compress`` makes a dataset of a corpus, fine-tunes a teacher, and lets
``compress`` find a model for each budget. ``--exhaustive`` also trains and measures every candidate to the
end, and sets the speed-up and the CPU seconds of the search beside it. What is finished is reused later.

The resplits answer whether a budget is kept: validation and test rows, which taught no model, are pooled and
parted anew a hundred times into rows to rank by, rows to judge on, and new rows. Each time the model is
chosen from the first two, and its drop is read off the third. The models are not trained anew.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import numpy as np
from demo.samples import CORPORA, prepare

from modelmill.artifacts import AnyReference, DatasetRef, ModelRef, ReportRef
from modelmill.compression.options import CompressionOptions
from modelmill.compression.search.budget import accuracy_drop
from modelmill.compression.search.candidates import Candidate
from modelmill.compression.search.measurement import MeasuredCandidate, Speed
from modelmill.compression.search.recipes import Recipe, Structure
from modelmill.compression.search.results import CompressionReport, Point
from modelmill.compression.search.selection import choose
from modelmill.errors import ConfigError
from modelmill.evaluation.latency import Latency, Throughput
from modelmill.evaluation.rows import labelled_rows
from modelmill.models.bundle import BundleInfo
from modelmill.models.scorers import load_scorer
from modelmill.pipeline.request import StepRequest
from modelmill.pipeline.runner import run_step
from modelmill.registry.bundles import fetch_bundle
from modelmill.registry.tracking import tracking_client
from modelmill.settings import Settings
from modelmill.tasks.metrics import Interval

BUDGETS: dict[str, dict[str, Any]] = {
    "2 points, 8 times faster and smaller": {
        "budget": {"max_metric_drop": 0.02, "min_throughput_ratio": 8, "max_size_mb": 11.4},
        "prefer": "quality",
    },
    "3 points, 300 times faster": {"budget": {"max_metric_drop": 0.03, "min_throughput_ratio": 300}},
}
RESPLITS = 100


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--corpus", choices=sorted(CORPORA), default="reuters-r8")
    parser.add_argument("--exhaustive", action="store_true")
    parser.add_argument("--layers", type=int, nargs="*", help="layers of the students; a smaller space")
    parser.add_argument("--tokens", type=int, nargs="*", help="tokens that they read; a smaller space")
    options = parser.parse_args()
    settings = Settings.from_environment()
    data, base_model = prepare(settings.home)
    steps = Steps(settings, f"compress_{options.corpus.replace('-', '_')}")
    dataset, teacher = steps.teacher(options.corpus, data, base_model)
    space = {name: getattr(options, name) for name in ("layers", "tokens") if getattr(options, name)}
    print("| budget | candidates | measured | chosen | points below, at most | smaller | faster | CPU s |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    found = [
        steps.row(name, {**budget, "space": space}, dataset, teacher) for name, budget in BUDGETS.items()
    ]
    if options.exhaustive:
        space = {**space, "families": ["transformer"]}
        compare(steps, {"budget": {"max_metric_drop": 0.02}, "space": space}, dataset, teacher)
    if found[0]:
        resplits(steps, found[0], dataset, teacher)


class Steps:
    """Runs steps as a pipeline does: what is finished is reused."""

    def __init__(self, settings: Settings, pipeline: str) -> None:
        self.settings, self.pipeline = settings, pipeline

    def run(self, component: str, config: dict[str, Any], **inputs: AnyReference) -> dict[str, Any]:
        request = StepRequest(
            pipeline=self.pipeline, step=component, component=component, config=config, inputs=inputs
        )
        return dict(run_step(request, self.settings).outputs)

    def teacher(self, corpus: str, data: Path, base_model: Path) -> tuple[DatasetRef, ModelRef]:
        table, name = str(data / self.pipeline), corpus.replace("-", "_")
        landing = str(data / "landing" / name / "*.jsonl")
        raw = self.run("ingest", {"source": landing, "format": "json", "to": table})["table"]
        split = {"column": "split", "validation": 0.2}
        columns = {"key": "id", "text": "text", "labels": ["topic"], "split": split, "near_duplicates": None}
        dataset = self.run("build_dataset", columns, table=raw)["dataset"]
        config = {"base_model": str(base_model), "epochs": 1.5}
        return dataset, self.run("fine_tune", config, dataset=dataset)["model"]

    def report(self, config: dict[str, Any], dataset: DatasetRef, teacher: ModelRef) -> CompressionReport:
        found: ReportRef = self.run("compress", config, dataset=dataset, teacher=teacher)["report"]
        client = tracking_client(self.settings.tracking_uri)
        path = client.download_artifacts(found.run_id, "compression.json")
        return CompressionReport.model_validate_json(Path(path).read_text())

    def row(
        self, name: str, config: dict[str, Any], dataset: DatasetRef, teacher: ModelRef
    ) -> CompressionReport | None:
        try:
            report = self.report(config, dataset, teacher)
        except ConfigError as error:
            print(f"| {name} | none: {error} |")
            return None
        chosen = next(point for point in report.points if point.chosen)
        print(
            f"| {name} | {report.candidates} | {len(report.points)} | {chosen.name} | "
            f"{100 * chosen.drop:.2f}, {100 * chosen.drop_bound:.2f} | {chosen.size_ratio:.1f} | "
            f"{chosen.speed_ratio:,.0f} | {report.cpu_seconds:,.0f} |"
        )
        return report


def compare(steps: Steps, config: dict[str, Any], dataset: DatasetRef, teacher: ModelRef) -> None:
    """Set the search beside trying everything, for transformers: a static model would win either way."""
    search = steps.report(config, dataset, teacher)
    everything = steps.report({**config, "exhaustive": True}, dataset, teacher)
    fast, fastest = (
        next(point for point in report.points if point.chosen).speed_ratio for report in (search, everything)
    )
    print(
        f"\nsearch against trying everything: {fast / fastest:.0%} of the speed-up, "
        f"{search.cpu_seconds / everything.cpu_seconds:.0%} of the CPU time "
        f"({search.cpu_seconds:,.0f} of {everything.cpu_seconds:,.0f} s)"
    )


def resplits(steps: Steps, report: CompressionReport, dataset: DatasetRef, teacher: ModelRef) -> None:
    """Choose a hundred times from other rows, and look at new ones."""
    cache = steps.settings.home / "cache"
    parts = [labelled_rows(dataset, split, report.label) for split in ("validation", "test")]
    texts = [text for part in parts for text in part.texts]
    truth = np.array([label for part in parts for label in part.values])
    base = right_answers(fetch_bundle(teacher, cache), texts, truth)
    right = {
        point.uri: right_answers(fetch_bundle(logged(steps, point.uri), cache), texts, truth)
        for point in report.points
    }
    first = len(parts[0].texts)  # the validation rows stand before those of the test split
    on_test(report, base[first:], {uri: found[first:] for uri, found in right.items()})
    rows = report.judging_rows + report.choosing_rows
    for drop in (0.01, 0.02):
        config = {"budget": {"max_metric_drop": drop}}
        print(f"\n{100 * drop:g} points: {json.dumps(kept(report, base, right, config, rows))}")


def on_test(report: CompressionReport, teacher: np.ndarray, right: dict[str, np.ndarray]) -> None:
    """Print what the measured models do on the test split, and how they compare with the teacher."""
    print(f"\n| model | test accuracy | of the teacher's {teacher.mean():.2%} | MB | smaller | faster |")
    print("| --- | --- | --- | --- | --- | --- |")
    for point in report.points:
        found = right[point.uri].mean()
        print(
            f"| {point.name} | {found:.2%} | {found / teacher.mean():.1%} | {point.size_mb:.2f} | "
            f"{point.size_ratio:.1f} | {point.speed_ratio:,.1f} |"
        )


def logged(steps: Steps, uri: str) -> ModelRef:
    from modelmill.registry.bundles import logged_model

    return logged_model(tracking_client(steps.settings.tracking_uri), uri)


def right_answers(folder: Path, texts: list[str], truth: np.ndarray) -> np.ndarray:
    return np.array(load_scorer(folder).predict(texts)) == truth


def kept(
    report: CompressionReport,
    base: np.ndarray,
    right: dict[str, np.ndarray],
    config: dict[str, Any],
    rows: int,
) -> dict[str, Any]:
    """Return how often the chosen model keeps the budget on new rows, and what it is."""
    settings = CompressionOptions.model_validate(config)
    drops, chosen = [], []
    for seed in range(RESPLITS):
        order = np.random.default_rng(seed).permutation(len(base))
        ranking, judging, fresh = order[: rows // 3], order[rows // 3 : rows], order[rows:]
        measured = [
            remeasured(point, base, right[point.uri], ranking=ranking, judging=judging, settings=settings)
            for point in report.points
        ]
        found = choose(measured, settings)
        uri = report.points[measured.index(found)].uri
        drops.append(float(base[fresh].mean() - right[uri][fresh].mean()))
        chosen.append(str(found.candidate.recipe))
    limit = settings.budget.max_metric_drop
    return {
        "resplits": RESPLITS,
        "kept": sum(drop <= limit + 1e-12 for drop in drops),
        "median drop, points": 100 * statistics.median(drops),
        "largest": 100 * max(drops),
        "chosen": {name: chosen.count(name) for name in dict.fromkeys(chosen)},
    }


def remeasured(
    point: Point,
    base: np.ndarray,
    right: np.ndarray,
    *,
    ranking: np.ndarray,
    judging: np.ndarray,
    settings: CompressionOptions,
) -> MeasuredCandidate:
    structure = Structure(point.layers, point.tokens, point.width, point.heads) if point.layers else None
    recipe = Recipe(point.family, structure, point.vocabulary, point.quantization)
    info = BundleInfo(format=point.format, text="text", max_tokens=8, parameters=point.parameters)
    drop = float(base[ranking].mean() - right[ranking].mean())
    throughput = Throughput(point.documents_per_second, point.documents_per_cpu_second, 1, (1.0,))
    latency = Latency(point.latency_p50_ms, point.latency_p95_ms, 1, (point.latency_p95_ms,) * 2)
    ratio = Interval(point.speed_ratio, point.speed_ratio_low, point.speed_ratio_high)
    return MeasuredCandidate(
        Candidate(recipe, Path(), info, point.size_mb, drop, np.zeros((1, 2), np.float32)),
        Speed(throughput, latency, ratio),
        accuracy_drop(base[judging], right[judging], confidence=settings.confidence),
        (),
    )


if __name__ == "__main__":
    main()
