"""How far off forecasts are: nights of the demo's pipeline, each forecast before it runs, and then measured.

    python -m benchmarks.forecasts --nights 4

Each night has new rows (1 % of those that were there), so that all steps of `reuters_nightly` run again. What
`modelmill forecast` says before a night is held against what each step's run then took. The forecast before
the first night must know nothing. `--rows` takes so many rows of the corpus instead of all 7,674: a night is
shorter, and its steps are the same.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from demo import samples
from modelmill.pipeline.forecast import Amount, RunForecast, StepForecast
from modelmill.settings import Settings
from modelmill.system.usage import CPU_SECONDS, DISK_MB, MEMORY_MB, SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

ROOT = Path(__file__).parents[1]
PIPELINE = ROOT / "dags" / "pipelines" / "reuters_nightly.yaml"
QUANTITIES = {"time, s": SECONDS, "CPU, s": CPU_SECONDS, "memory, MB": MEMORY_MB, "disk, MB": DISK_MB}
NEW = 0.01
"""Share of the rows that a night adds."""
WANTED = 0.20
"""Largest median error that was asked for."""


def main() -> None:
    """Print a table for each night, and the median errors."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--nights", type=int, default=4)
    parser.add_argument("--rows", type=int, help="of the corpus; all of them")
    parser.add_argument("--samples", type=Path, default=ROOT / ".modelmill", help="where the demo's data are")
    options = parser.parse_args()
    data, base_model = samples.prepare(options.samples)
    rows = corpus(data / "landing" / "reuters_r8", options.rows)
    with tempfile.TemporaryDirectory(prefix="modelmill-forecasts-") as place:
        folder = Path(place)
        os.environ |= {"MODELMILL_HOME": str(folder / "home"), "MODELMILL_SOURCES": str(folder)}
        os.environ.pop("MLFLOW_TRACKING_URI", None)
        params = {"data": str(folder / "data"), "base_model": str(base_model)}
        errors: dict[int, dict[str, list[float]]] = {}
        for night in range(options.nights):
            land(folder / "data" / "landing" / "reuters_r8", rows if night == 0 else new_rows(rows, night))
            errors[night] = compare(night, params)
        print("\n| forecast after | " + " | ".join(QUANTITIES) + " |\n|" + " --- |" * 5)
        for night, found in list(errors.items())[1:]:
            print(f"| {night} {'night' if night == 1 else 'nights'} | {medians(found)} |")


def medians(errors: Mapping[str, list[float]]) -> str:
    """Return a table's cells: the median error of all steps, and the largest, for each quantity."""
    cells = []
    for of in errors.values():
        above = sum(one > WANTED for one in of)
        cells.append(
            f"{statistics.median(of):.1%} (at most {max(of):.0%}, above {WANTED:.0%}: {above} of {len(of)})"
        )
    return " | ".join(cells)


def corpus(landing: Path, most: int | None) -> list[dict[str, str]]:
    """Return rows of the corpus, both splits of it in proportion."""
    rows: list[dict[str, str]] = []
    for path in sorted(landing.glob("*.jsonl")):
        rows += map(json.loads, path.read_text().splitlines())
    return rows if most is None else Random(0).sample(rows, most)


def new_rows(rows: list[dict[str, str]], night: int) -> list[dict[str, str]]:
    """Return rows of a night: each the first half of one text and the second of another of the same topic."""
    random, train = Random(night), [row for row in rows if row["split"] == "train"]
    made = []
    for number, one in enumerate(random.sample(train, int(NEW * len(rows)))):
        words = one["text"].split()
        other = random.choice([row for row in train if row["topic"] == one["topic"]])["text"].split()
        text = " ".join(words[: len(words) // 2] + other[len(other) // 2 :])
        made.append({**one, "id": f"night-{night}-{number}", "text": text})
    return made


def land(folder: Path, rows: Iterable[Mapping[str, str]]) -> None:
    """Put rows where the pipeline takes them from, as a file of their own."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"part-{len(list(folder.iterdir())):03d}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def compare(night: int, params: Mapping[str, str]) -> dict[str, list[float]]:
    """Forecast a night, run it, print both side by side, and return the errors of its steps by quantity."""
    foretold = RunForecast.model_validate_json(modelmill("forecast", params))
    load = os.getloadavg()[0]
    ends = json.loads(modelmill("run", params))
    print(f"\nnight {night + 1}, load before {load:.1f}, after {os.getloadavg()[0]:.1f}\n")
    if night == 0:
        print(f"not known before it: {len(foretold.unknown)} of {len(foretold.steps)} steps\n")
    print("| step | state | " + " | ".join(QUANTITIES) + " |\n|" + " --- |" * (2 + len(QUANTITIES)))
    errors: dict[str, list[float]] = {name: [] for name in QUANTITIES}
    for step in foretold.steps:
        cells, took = [], metrics(ends[step.step])
        for name, metric in QUANTITIES.items():
            amount = amount_of(step, name)
            cells.append(cell(amount, took.get(metric)))
            if amount and took.get(metric) and step.state == "known":
                errors[name].append(abs(amount.expected - took[metric]) / took[metric])
        print(f"| {step.step} | {ends[step.step]['state']} | {' | '.join(cells)} |", flush=True)
    return errors


def amount_of(step: StepForecast, quantity: str) -> Amount | None:
    """Return what was forecast for a step."""
    return dict(zip(QUANTITIES, (step.seconds, step.cpu_seconds, step.memory_mb, step.disk_mb), strict=True))[
        quantity
    ]


def cell(amount: Amount | None, took: float | None) -> str:
    """Return what was forecast, what it took, and the difference."""
    if took is None:
        return ""
    if amount is None:
        return f"? → {took:.1f}"
    off = f" ({(amount.expected - took) / took:+.0%})" if took else ""
    told = "?" if amount.error is None else f"{amount.error:.0%}"
    return f"{amount.expected:.1f} ± {told} → {took:.1f}{off}"


def metrics(end: Mapping[str, Any]) -> dict[str, float]:
    """Return what a step's run took; nothing if it was reused or did not run."""
    from modelmill.registry.tracking import tracking_client

    if end["state"] != "done":
        return {}
    client = tracking_client(Settings.from_environment().tracking_uri)
    return dict(client.get_run(end["run_id"]).data.metrics)


def modelmill(command: str, params: Mapping[str, str]) -> str:
    """Run a command on the pipeline, and return its JSON."""
    given = [word for name, value in params.items() for word in ("--param", f"{name}={value}")]
    line = [sys.executable, "-m", "modelmill", command, str(PIPELINE), *given, "--json"]
    done = subprocess.run(line, check=False, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    return done.stdout


if __name__ == "__main__":
    main()
