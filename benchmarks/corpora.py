"""Twelve corpora that packages ship, through one pipeline with the defaults of every component.

``./run python -m benchmarks.corpora`` makes the tables (see :mod:`benchmarks.corpora_packages`), runs
``corpora.yaml`` for each corpus, one after another, and prints what the baseline, the teacher, the student
and the exported file are worth on the test rows, and what the gate says. Name corpora to run only these. What
has run is reused.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.corpora_packages import CORPORA, landing
from demo.samples import prepare

from modelmill.registry.tracking import tracking_client
from modelmill.settings import Settings

TEMPLATE = Path(__file__).with_name("corpora.yaml")
KEPT = 0.99
"""Share of the teacher's figure that the exported file has to keep."""
_TITLES = {"accuracy": "accuracy", "micro_f1": "micro-F1", "r2": "R²"}


@dataclass(frozen=True)
class Figure:
    """A metric with its 95 % interval: a share, shown in per cent, or R², shown as it is."""

    name: str
    value: float
    low: float
    high: float

    def __str__(self) -> str:
        if self.name == "r2":
            return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"
        return f"{self.value * 100:.1f} ({self.low * 100:.1f} to {self.high * 100:.1f})"


@dataclass(frozen=True)
class Outcome:
    """What a corpus ended with."""

    corpus: str
    rows: int
    """Test rows."""
    figures: tuple[Figure, ...]
    """Of the best baseline, the teacher, the student and the exported file."""
    passed: bool
    reasons: tuple[str, ...]
    """Why the gate refuses."""
    seconds: float

    @property
    def kept(self) -> float:
        """Share of the teacher's figure that the exported file has."""
        return self.figures[3].value / self.figures[1].value

    @property
    def honest(self) -> bool:
        """Whether the exported file keeps what it has to, or is refused."""
        return not self.passed or self.kept >= KEPT


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("corpora", nargs="*", metavar="corpus", help=f"of {', '.join(CORPORA)}")
    options = parser.parse_args()
    chosen = [CORPORA[name] for name in options.corpora or CORPORA]
    settings = Settings.from_environment()
    _, base_model = prepare(settings.home)
    data = settings.home / "corpora"
    landing(data / "landing", settings.home / "downloads", chosen)
    outcomes = []
    for corpus in chosen:
        outcome = run(corpus.name, data, base_model, settings)
        if outcome is None:
            print(f"{corpus.name} failed: {data / 'logs' / corpus.name}.log says why", flush=True)
            continue
        print(line(outcome), flush=True)
        outcomes.append(outcome)
    print(table(outcomes))
    if len(outcomes) < len(chosen):
        raise SystemExit(1)


def run(corpus: str, data: Path, base_model: Path, settings: Settings) -> Outcome | None:
    """Run the pipeline on a corpus; None if it fails."""
    params = {"data": data, "corpus": corpus, "base_model": base_model}
    command = [sys.executable, "-m", "modelmill", "run", "--json", str(TEMPLATE)]
    for name, value in params.items():
        command += ["--param", f"{name}={value}"]
    log = data / "logs" / f"{corpus}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as errors:
        ended = subprocess.run(command, stdout=subprocess.PIPE, stderr=errors, text=True, check=False)
    if ended.returncode:
        return None
    ends: dict[str, Any] = json.loads(ended.stdout)
    report = _document(ends["report"]["outputs"]["report"]["uri"], settings)
    verdict = ends["verdict"]["outputs"]["verdict"]
    figures = [_best(report["baselines"]), *(_figure(one) for one in report["models"])]
    return Outcome(
        corpus=corpus,
        rows=report["rows"],
        figures=tuple(figures),
        passed=verdict["passed"],
        reasons=tuple(verdict["reasons"]),
        seconds=sum(end["seconds"] for end in ends.values()),
    )


def _document(uri: str, settings: Settings) -> dict[str, Any]:
    """Return a JSON report of MLflow."""
    import mlflow

    tracking_client(settings.tracking_uri)  # and no progress bars
    found: dict[str, Any] = mlflow.artifacts.load_dict(uri)
    return found


def _figure(result: Mapping[str, Any]) -> Figure:
    """Return the first metric of a model or baseline in a report."""
    if "accuracy" in result:
        return Figure("accuracy", result["accuracy"], result["accuracy_low"], result["accuracy_high"])
    score = result["scores"][0]
    return Figure(score["metric"], score["value"], score["low"], score["high"])


def _best(baselines: Sequence[Mapping[str, Any]]) -> Figure:
    return max(map(_figure, baselines), key=lambda figure: figure.value)


def line(outcome: Outcome) -> str:
    """Return a row of the table."""
    said = "accepted" if outcome.passed else "refused: " + "; ".join(outcome.reasons)
    cells = (
        f"{outcome.corpus}: {CORPORA[outcome.corpus].about}",
        f"{_TITLES[outcome.figures[1].name]}, {outcome.rows}",
        *map(str, outcome.figures),
        f"{outcome.kept:.1%}".replace("%", " %"),
        said,
        f"{outcome.seconds:.0f}",
    )
    return f"| {' | '.join(cells)} |"


def table(outcomes: Sequence[Outcome]) -> str:
    """Return the table, and how many corpora ended as they should."""
    head = (
        *("corpus", "metric, test rows", "best baseline", "teacher", "student", "exported"),
        *("exported / teacher", "gate", "s"),
    )
    kept = sum(outcome.kept >= KEPT for outcome in outcomes)
    honest = sum(outcome.honest for outcome in outcomes)
    lines = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}", *map(line, outcomes), ""]
    lines.append(f"{len(outcomes)} corpora: {kept} keep {KEPT:.0%}, {honest} keep it or are refused")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
