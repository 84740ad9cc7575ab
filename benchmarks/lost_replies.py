"""What becomes of a step when MLflow's replies are lost: each fault at each call, against a real server.

``./run python -m benchmarks.lost_replies`` starts MLflow with SQLite and a proxy in front of it. A step logs
parameters and a model, registers it and ends; one request is broken, and the step is tried again until it
goes through. Right is: one finished run, one model that is ready with all its files, one version, and nothing
else. ``--times 99`` breaks all requests of a kind while the first attempt lasts.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from benchmarks.fault_proxy import CALLS, FAULTS, FaultProxy

from modelmill.artifacts import ModelRef
from modelmill.errors import ModelmillError
from modelmill.registry.bundles import list_outputs, publish
from modelmill.registry.mlflow_calls import mlflow_errors
from modelmill.registry.tracking import experiment_id, open_run, tracking_client
from modelmill.registry.versions import register

_ATTEMPTS = 4


@dataclass(frozen=True)
class End:
    """How things stand after a step went through, or gave up."""

    attempts: int
    errors: tuple[str, ...]
    """What the attempts that failed raised; those that are not ours begin with ``untyped``."""
    runs: dict[str, int]
    models: dict[str, int]
    versions: int
    files: int
    seconds: float

    @property
    def is_right(self) -> bool:
        one = self.runs == {"FINISHED": 1} and self.models == {"READY": 1} and self.versions == 1
        return one and self.files == 2 and not any(error.startswith("untyped") for error in self.errors)


@contextmanager
def deployment(home: Path) -> Iterator[tuple[str, FaultProxy]]:
    """Start MLflow and the proxy; give the server's own URL, and the proxy."""
    from demo.servers.mlflow_server import LocalMlflow

    with LocalMlflow(home) as server:
        server.wait_ready()
        proxy = FaultProxy(server.url)
        os.environ |= {"MODELMILL_MLFLOW_REPLY": "2", "MODELMILL_MLFLOW_CALL": "8"}
        try:
            yield server.url, proxy
        finally:
            proxy.close()


def cell(server: str, proxy: FaultProxy, fault: str, call: str, folder: Path, *, times: int = 1) -> End:
    """Break a call, and try a step until it goes through.

    :param server: MLflow's own URL.
    :param proxy: in front of it.
    :param fault: one of :data:`~benchmarks.fault_proxy.FAULTS`.
    :param call: one of :data:`~benchmarks.fault_proxy.CALLS`.
    :param folder: an empty folder.
    :param times: requests to break.
    :return: how it ended.
    """
    key = hashlib.sha256(uuid.uuid4().bytes).hexdigest()
    name = f"m{key[:12]}"
    client = tracking_client(proxy.url)
    experiment = experiment_id(client, name)
    proxy.fail(fault, call, times=times)
    began, errors = time.monotonic(), list[str]()
    for attempt in range(_ATTEMPTS):
        if attempt:
            proxy.fail("", call, times=0)
        try:
            with mlflow_errors(proxy.url):
                _step(client, experiment, key, name, folder / str(attempt))
            break
        except ModelmillError as error:
            errors.append(str(error))
        except Exception as error:
            errors.append(f"untyped {type(error).__name__}: {error}")
    seconds = time.monotonic() - began
    proxy.fail("", call, times=0)
    return _end(tracking_client(server), experiment, name, errors, seconds)


def _step(client: Any, experiment: str, key: str, name: str, folder: Path) -> None:
    bundle = folder / "model" / "artifacts" / "bundle"
    bundle.mkdir(parents=True)
    (bundle / "weights").write_bytes(key.encode() * 100)
    (folder / "model" / "MLmodel").write_text("model_id: null\nflavors: {}\n")
    run = open_run(client, experiment, key, name=name, tags={})
    context: Any = SimpleNamespace(run=run, step_key=key, cache=folder / "cache")
    try:
        run.log_params({"rows": 1})
        digest = hashlib.sha256(key.encode()).hexdigest()
        uri = publish(folder / "model", digest, context, role="exported", kind="onnx", tags={})
        list_outputs([uri], context)
        model = ModelRef(uri=uri, run_id=run.run_id, digest=digest, format="onnx", role="exported")
        register(client, name, model)
        run.finish({"model": model})
    except Exception as error:
        run.fail(error)
        raise


def _end(client: Any, experiment: str, name: str, errors: list[str], seconds: float) -> End:
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    runs, models = dict[str, int](), dict[str, int]()
    for run in client.search_runs([experiment]):
        runs[run.info.status] = runs.get(run.info.status, 0) + 1
    files = 0
    for model in client.search_logged_models([experiment]):
        models[str(model.status.value)] = models.get(str(model.status.value), 0) + 1
        store = get_artifact_repository(model.artifact_location, tracking_uri=client.tracking_uri)
        files += sum(
            not info.is_dir for path in (None, "artifacts/bundle") for info in store.list_artifacts(path)
        )
    versions = len(client.search_model_versions(f"name = '{name}'"))
    return End(len(errors) + 1, tuple(errors), runs, models, versions, files, seconds)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--times", type=int, default=1, help="requests to break in a row")
    options = parser.parse_args()
    wrong = 0
    with tempfile.TemporaryDirectory() as folder, deployment(Path(folder) / "mlflow") as (server, proxy):
        for call in CALLS:
            for fault in FAULTS:
                place = Path(folder) / f"{call} {fault}".replace(" ", "-")
                end = cell(server, proxy, fault, call, place, times=options.times)
                wrong += not end.is_right
                said = "right" if end.is_right else f"WRONG {end}"
                print(f"{call:15} {fault:13} {end.seconds:5.1f} s, {end.attempts} tries: {said}", flush=True)
    print(f"{len(CALLS) * len(FAULTS) - wrong} of {len(CALLS) * len(FAULTS)} are right")
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
