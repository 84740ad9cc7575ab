"""The service under load: swaps, and many signals on one trunk.

``./run python -m benchmarks.serving`` starts real services (``modelmill serve``, and ``mlflow models serve``
for what a user would do instead) with all-MiniLM-L6-v2 in int8 and asks them over HTTP, one client and one
row at a time without pause. CPU seconds are those of the server's process tree.

``swap``: the alias ``champion`` moves so many times between two versions; each time the new one has to be
fetched, verified, loaded and warmed up. A request counts as "during a swap" from the move of the alias until
a second after the first answer of the new version.

``signals``: a service with 50 heads on one trunk beside one with a single model, and beside
``mlflow models serve`` with a single model: 50 of those are 50 times as many CPU seconds, since each text has
to be sent to all of them.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from demo.samples import prepare

from modelmill.artifacts import DatasetRef, ModelRef
from modelmill.component import StepContext
from modelmill.registry.bundles import log_model
from modelmill.registry.tracking import experiment_id, open_run, tracking_client
from modelmill.registry.versions import TAG_FORMAT
from modelmill.settings import Settings

SIGNALS = 50
WORDS = 24
WARM_UP = 50
PATHS = {"modelmill": "/v1/predict", "mlflow": "/invocations"}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--part", choices=("swap", "signals"), action="append")
    parser.add_argument("--swaps", type=int, default=100)
    parser.add_argument("--requests", type=int, default=500, help="of each server and round")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    _, base = prepare(Settings.from_environment().home)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        os.environ |= {
            "MODELMILL_HOME": str(place / "home"),
            "MLFLOW_TRACKING_URI": f"sqlite:///{place}/mlflow.db",
        }
        registry = Registry(place, base)
        for part in options.part or ("swap", "signals"):
            if part == "swap":
                swap(registry, place, options.swaps)
            else:
                signals(registry, place, options.requests, options.rounds)


class Registry:
    """Models of MiniLM's size with random heads, registered in an MLflow of their own."""

    def __init__(self, place: Path, base: Path) -> None:
        self.place, self.base = place, base
        settings = Settings.from_environment()
        self.client = tracking_client(settings.tracking_uri)
        experiment = experiment_id(self.client, "benchmark", artifact_root=place / "artifacts")
        run = open_run(self.client, experiment, "0" * 64, name="benchmark", tags={})
        self.context = StepContext(
            pipeline="benchmark",
            step="step",
            step_key="0" * 64,
            run=run,
            workdir=place / "work",
            cache=settings.home / "cache",
            settings=settings,
            progress=lambda *_, **__: None,
            log=print,
        )
        self.context.workdir.mkdir()

    def register(self, name: str, model: ModelRef) -> int:
        if not self.client.search_registered_models(f"name = '{name}'"):
            self.client.create_registered_model(name)
        model_id = model.uri.removeprefix("models:/")
        logged = self.client.get_logged_model(model_id).tags
        tags = {key: value for key, value in logged.items() if key.startswith("modelmill.")}
        tags[TAG_FORMAT] = model.format
        version = self.client.create_model_version(
            name, source=model.uri, run_id=model.run_id, tags=tags, model_id=model_id
        )
        return int(version.version)

    def move(self, name: str, version: int) -> None:
        self.client.set_registered_model_alias(name, "champion", str(version))

    def dataset(self) -> DatasetRef:
        return DatasetRef(
            uri=str(self.place / "none"), version=0, key="id", text="text", labels=("topic",), split="split"
        )

    def model(self, seed: int) -> ModelRef:
        """Log a whole model: encoder and head in one int8 file."""
        import torch

        from modelmill.compression.quantization.int8 import int8_dynamic
        from modelmill.models.base_model import load_base_model
        from modelmill.models.bundle import BundleInfo
        from modelmill.models.classifier import Classifier, parameter_count
        from modelmill.models.onnx_export import export_onnx
        from modelmill.tokens.token_ids import Tokens

        torch.manual_seed(seed)
        base = load_base_model(str(self.base), max_tokens=128, dropout=0.1)
        model = Classifier(base.encoder, classes=2).eval()
        folder = self.place / f"model-{seed}"
        folder.mkdir()
        (folder / "tokenizer.json").write_bytes(base.tokenizer.read_bytes())
        BundleInfo(
            format="onnx",
            label="topic",
            classes=("no", "yes"),
            text="text",
            max_tokens=128,
            parameters=parameter_count(model),
        ).save(folder)
        plain = self.place / f"plain-{seed}.onnx"
        export_onnx(model, plain)
        int8_dynamic(plain, folder / "model.onnx", Tokens.of([]))
        plain.unlink()
        return log_model(folder, role="exported", dataset=self.dataset(), context=self.context)


@contextmanager
def served(command: Sequence[str], *, ready: str, log: Path) -> Iterator[tuple[int, psutil.Process]]:
    """Run a server until the block ends; yield its port and its process."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", *command, "--port", str(port)],
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=environment,
        )
    try:
        deadline = time.monotonic() + 300
        while not _answers(port, ready):
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(log.read_text()[-3000:])
            time.sleep(0.3)
        yield port, psutil.Process(process.pid)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _answers(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def cpu_seconds(process: psutil.Process) -> float:
    tree = [process, *process.children(recursive=True)]
    return float(sum(sum(item.cpu_times()[:2]) for item in tree))


def texts() -> Iterator[str]:
    """Yield texts of words that the tokenizer knows, none twice."""
    words = ["market", "said", "bank", "new", "shares", "today", "profit", "loss", "trade", "oil", "grain"]
    random = np.random.default_rng(0)
    while True:
        yield " ".join(random.choice(words, WORDS))


@dataclass(frozen=True)
class Asked:
    """One request."""

    began: float
    seconds: float
    status: int
    answer: Any


def ask(port: int, path: str, bodies: Iterator[bytes]) -> Iterator[Asked]:
    """Send one request after the other on one connection."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    headers = {"Content-Type": "application/json"}
    for body in bodies:
        began = time.perf_counter()
        connection.request("POST", path, body, headers)
        response = connection.getresponse()
        content = response.read()
        yield Asked(began, time.perf_counter() - began, response.status, json.loads(content))
    connection.close()


def percentile(values: Sequence[float], share: float) -> float:
    return float(np.percentile(values, 100 * share)) * 1000


def swap(registry: Registry, place: Path, moves: int) -> None:
    versions = [registry.register("swapped", registry.model(seed)) for seed in (0, 1)]
    registry.move("swapped", versions[0])
    found: list[Asked] = []
    stop = threading.Event()

    def client(port: int) -> None:
        bodies = (json.dumps({"rows": [{"text": text}]}).encode() for text in texts())
        for asked in ask(port, PATHS["modelmill"], bodies):
            found.append(asked)
            if stop.is_set():
                return

    spans = []
    command = ["modelmill", "serve", "--model", "swapped", "--option", "poll_seconds=0.5"]
    with served(command, ready="/readyz", log=place / "swap.log") as (port, _):
        thread = threading.Thread(target=client, args=(port,))
        thread.start()
        time.sleep(3)
        for number in range(1, moves + 1):
            version = versions[number % 2]
            began = time.perf_counter()
            registry.move("swapped", version)
            while found[-1].answer["models"]["swapped"]["version"] != version:
                time.sleep(0.01)
            spans.append((began, time.perf_counter() + 1.0, version))
            time.sleep(2)
        stop.set()
        thread.join()
    report_swaps(found, spans, versions)


def report_swaps(
    found: Sequence[Asked], spans: Sequence[tuple[float, float, int]], versions: Sequence[int]
) -> None:
    during, between, wrong = [], [], 0
    before = versions[0]
    position = 0
    for asked in found[WARM_UP:]:
        while position < len(spans) and asked.began > spans[position][1]:
            before = spans[position][2]
            position += 1
        inside = position < len(spans) and asked.began + asked.seconds >= spans[position][0]
        allowed = {before, spans[position][2]} if inside else {before}
        wrong += asked.status != 200 or asked.answer["models"]["swapped"]["version"] not in allowed
        (during if inside else between).append(asked.seconds)
    failed = sum(asked.status != 200 for asked in found)
    print(f"\n{len(spans)} moves, {len(found):,} requests: {failed} failed, {wrong} of neither old nor new\n")
    print("| ms | p50 | p95 | p99 | largest | requests |\n| --- | --- | --- | --- | --- | --- |")
    for name, values in (("between swaps", between), ("during a swap", during)):
        figures = " | ".join(f"{percentile(values, share):.1f}" for share in (0.5, 0.95, 0.99, 1))
        print(f"| {name} | {figures} | {len(values):,} |")
    print(f"\np99 ratio {percentile(during, 0.99) / percentile(between, 0.99):.2f}")


def measured(
    port: int, process: psutil.Process, path: str, bodies: Iterator[bytes], count: int
) -> dict[str, float]:
    """Return latencies in milliseconds, and CPU milliseconds of a request."""
    requests = ask(port, path, bodies)
    for _ in range(WARM_UP):
        next(requests)
    before = cpu_seconds(process)
    found = [next(requests) for _ in range(count)]
    cpu = (cpu_seconds(process) - before) / count
    assert all(asked.status == 200 for asked in found), found[0].answer
    seconds = [asked.seconds for asked in found]
    return {
        "p50": percentile(seconds, 0.5),
        "p95": percentile(seconds, 0.95),
        "cpu": 1000 * cpu,
        "signals": len(found[0].answer.get("models", [0])),
    }


def signals(registry: Registry, place: Path, count: int, turns: int) -> None:
    names = heads(registry, SIGNALS)
    registry.move("single", registry.register("single", registry.model(2)))
    ours = (json.dumps({"rows": [{"text": text}]}).encode() for text in texts())
    theirs = (
        json.dumps({"dataframe_split": {"columns": ["text"], "data": [[text]]}}).encode() for text in texts()
    )
    many = [item for name in names for item in ("--model", name)]
    mlflow = [
        "mlflow",
        "models",
        "serve",
        "-m",
        "models:/single@champion",
        "--env-manager",
        "local",
        "-w",
        "1",
    ]
    servers: dict[str, tuple[list[str], str, str, Iterator[bytes]]] = {
        "50 heads on one trunk": (["modelmill", "serve", *many], "/readyz", "modelmill", ours),
        "one model": (["modelmill", "serve", "--model", "single"], "/readyz", "modelmill", ours),
        "one model, mlflow models serve": (mlflow, "/ping", "mlflow", theirs),
    }
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in servers}
    for turn in range(turns):
        for name in list(servers) if turn % 2 else reversed(servers):
            command, ready, kind, bodies = servers[name]
            with served(command, ready=ready, log=place / "server.log") as (port, process):
                rounds[name].append(measured(port, process, PATHS[kind], bodies, count))
    found = {
        name: {key: statistics.median(figures[key] for figures in measures) for key in measures[0]}
        for name, measures in rounds.items()
    }
    print(
        "\n| one row a request | p50 ms | p95 ms | CPU ms a request | signals |"
        "\n| --- | --- | --- | --- | --- |"
    )
    for name, figures in found.items():
        print(
            f"| {name} | {figures['p50']:.1f} | {figures['p95']:.1f} | {figures['cpu']:.2f} | "
            f"{figures['signals']:.0f} |"
        )
    shared, single, usual = found.values()
    print(f"\np95 of 50 signals to one model: {shared['p95'] / single['p95']:.2f}")
    print(f"requests per CPU second to 50 mlflow models serve: {SIGNALS * usual['cpu'] / shared['cpu']:.1f}")
    print(f"requests per CPU second to 50 modelmill serve:     {SIGNALS * single['cpu'] / shared['cpu']:.1f}")


def heads(registry: Registry, count: int) -> list[str]:
    """Register heads with random weights on one trunk, and make each the champion of its name."""
    from safetensors.numpy import save_file

    from modelmill.compression.trunk import make_trunk
    from modelmill.models.base_model import load_base_model
    from modelmill.models.bundle import BundleInfo

    base = load_base_model(str(registry.base), max_tokens=128, dropout=0.0)
    folder = registry.place / "trunk"
    make_trunk(base.encoder, folder, tokenizer=base.tokenizer, text="text", max_tokens=128)
    trunk = log_model(folder, role="trunk", context=registry.context)
    width = base.encoder.config.hidden_size
    random, names = np.random.default_rng(0), []
    for number in range(count):
        head = registry.place / f"head-{number}"
        head.mkdir()
        weights = {"weight": random.normal(size=(2, width)), "bias": np.zeros(2)}
        save_file(
            {key: value.astype(np.float32) for key, value in weights.items()}, head / "head.safetensors"
        )
        BundleInfo(
            format="head",
            label=f"signal_{number}",
            classes=("no", "yes"),
            text="text",
            max_tokens=128,
            parameters=2 * width + 2,
            features=width,
            head="linear",
            trunk=trunk.digest,
        ).save(head)
        model = log_model(
            head, role="head", dataset=registry.dataset(), context=registry.context, trunk=trunk
        )
        names.append(f"signal_{number}")
        registry.move(names[-1], registry.register(names[-1], model))
    return names


if __name__ == "__main__":
    main()
