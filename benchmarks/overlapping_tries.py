"""Two tries at one step that overlap, on two machines: the old one wakes up when the new one has ended.

``./run python -m benchmarks.overlapping_tries --overlaps 50``: a try is stopped (SIGSTOP) at a random moment,
as a machine that is paused or cut off is. Another one, which shares MLflow and the tables with it and nothing
else, does the same step to its end; then the old one goes on. Afterwards there must be one finished run with
the new try's outputs, the model that it names must be whole, and each table must have its rows once.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from demo.servers import LocalMlflow

from modelmill.errors import ModelmillError
from modelmill.pipeline.request import StepRequest, StepResult
from modelmill.pipeline.step_process import StepProcess

ROWS = 400
PIPELINE = "overlaps"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--overlaps", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, LocalMlflow(Path(folder) / "mlflow") as mlflow:
        place = Place(Path(folder), mlflow.url)
        place.prepare()
        counts: Counter[str] = Counter()
        for number in range(options.overlaps):
            source = random.Random(options.seed + number)
            step = STEPS[number % len(STEPS)]
            found = place.overlap(step, number, source)
            counts[f"{step}: {found}"] += 1
            print(f"{number}: {step}: {found}", flush=True)
    for what, count in sorted(counts.items()):
        print(f"{count:4} {what}")
    sys.exit(any("WRONG" in what for what in counts))


STEPS = ("ingest", "build_dataset", "fine_tune")


@dataclass
class Place:
    """MLflow and the tables, which both machines share, and a folder for each of them."""

    folder: Path
    mlflow: str
    seconds: dict[str, float] = field(default_factory=dict)
    """That a step takes, by component."""
    dataset: Any = None

    def prepare(self) -> None:
        """Make what the steps read, and see how long each of them takes."""
        from benchmarks.factory_pipeline import write_base_model

        write_base_model(self.folder / "base")
        for step in STEPS:
            began = time.monotonic()
            made = self.run("old", self.request(step, -1))
            self.seconds[step] = time.monotonic() - began
            self.dataset = made.outputs.get("dataset", self.dataset)

    def request(self, step: str, number: int) -> StepRequest:
        """Return a step that nobody has run, and write what it reads."""
        import pyarrow as pa
        from deltalake import write_deltalake

        table = str(self.folder / f"tables/{step}-{number}")
        topics = ("sport", "trade")
        texts = [
            f"{topics[n % 2]} row {n} of {number}, and words that are its own: {n * 7919}"
            for n in range(ROWS)
        ]
        inputs: dict[str, Any] = {}
        config: dict[str, Any] = {}
        if step == "ingest":
            landing = self.folder / f"landing/{number}"
            landing.mkdir(parents=True)
            for part in range(4):
                lines = [json.dumps({"body": text}) for text in texts[part::4]]
                (landing / f"{part}.jsonl").write_text("\n".join(lines))
            config = {"source": f"{landing}/*.jsonl", "to": table}
        elif step == "build_dataset":
            rows = {"body": texts, "topic": [topics[n % 2] for n in range(ROWS)]}
            write_deltalake(f"{table}-source", pa.table(rows))
            inputs = {"table": {"kind": "table", "uri": f"{table}-source", "version": 0}}
            config = {"text": "body", "labels": ["topic"], "near_duplicates": None, "to": table}
        else:
            inputs = {"dataset": self.dataset}
            config = {
                "base_model": str(self.folder / "base"),
                "epochs": 3,
                "seed": number + 2,
                "frozen_layers": 0,
            }
            config |= {"label": "topic", "checkpoint_seconds": 1}
        return StepRequest(pipeline=PIPELINE, step=step, component=step, config=config, inputs=inputs)

    def process(self, machine: str, request: StepRequest) -> StepProcess:
        environment = {
            "MODELMILL_HOME": str(self.folder / machine),
            "MLFLOW_TRACKING_URI": self.mlflow,
            "OMP_NUM_THREADS": "1",
        }
        return StepProcess(request, python=sys.executable, environment=environment)

    def run(self, machine: str, request: StepRequest) -> StepResult:
        return self.process(machine, request).run(lambda _line: None)

    def overlap(self, step: str, number: int, source: random.Random) -> str:
        """Let two tries overlap; return what came of it."""
        request = self.request(step, number)
        old = self.process("old", request)
        told: list[str] = []
        with _stopped_after(old, source.uniform(0.3, 1.0) * self.seconds[step], told):
            new = self.run("new", request)
        return self.judged(step, new, told[0])

    def judged(self, step: str, new: StepResult, old: str) -> str:
        from modelmill.artifacts import ModelRef
        from modelmill.registry.bundles import fetch_bundle
        from modelmill.registry.tracking import find_finished, tracking_client
        from modelmill.tables.reading import read_arrow

        client = tracking_client(self.mlflow)
        experiment = client.get_experiment_by_name(PIPELINE).experiment_id
        marked = f"tags.`modelmill.step_key` = '{new.step_key}'"
        runs = client.search_runs([experiment], filter_string=marked)
        if [run.info.status for run in runs] != ["FINISHED"]:
            return f"WRONG: runs {[run.info.status for run in runs]}; the old try {old}"
        finished = find_finished(client, experiment, new.step_key)
        if finished is None or finished.outputs != new.outputs:
            return f"WRONG: the run has other outputs than the new try; the old one {old}"
        for output in new.outputs.values():
            if isinstance(output, ModelRef):
                try:
                    fetch_bundle(output, Path(tempfile.mkdtemp(dir=self.folder)))
                except ModelmillError as error:
                    return f"WRONG: the new try's model cannot be loaded ({error}); the old one {old}"
        if step != "fine_tune":
            name = "table" if step == "ingest" else "dataset"
            rows = read_arrow(new.outputs[name])  # type: ignore[arg-type] # these are tables
            if (
                sorted(set(rows.column("body").to_pylist())) != sorted(rows.column("body").to_pylist())
                or len(rows) != ROWS
            ):
                return f"WRONG: {len(rows)} rows; the old one {old}"
        return f"right; the old one {old}"


@contextlib.contextmanager
def _stopped_after(old: StepProcess, seconds: float, told: list[str]) -> Iterator[None]:
    """Start a try, and stop it after a time; let it go on at the end, and wait for its own."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            result = old.run(lambda _line: None)
            told.append("reused the result" if result.reused else "ended well")
        except ModelmillError as error:
            errors.append(error)
            told.append("gave way" if "newer attempt" in str(error) else f"failed: {str(error)[:160]}")

    thread = threading.Thread(target=run)
    thread.start()
    time.sleep(seconds)
    while old.pid is None:
        time.sleep(0.01)
    pid = old.pid
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGCONT)
        thread.join()


if __name__ == "__main__":
    main()
