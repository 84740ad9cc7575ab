"""Processes that promote models under one name at the same time, and one that watches the alias.

    python -m benchmarks.promotions                      8 processes, 25 promotions each, as on 8 machines
    python -m benchmarks.promotions --one-machine        they share a work directory, and so its lock
    python -m benchmarks.promotions --kill 20            and are killed 20 times on the way

Each promotion is made as a pipeline makes it: a model of its own, a verdict on the champion of that moment,
the promotion; where another process was faster, the verdict is made again. Counted are moves of the alias
against the ledger's order, errors, and ledger rows that are missing or do not follow each other.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path

NAME = "raced"
DEADLINE_SECONDS = 1500.0


def make_bundle(folder: Path, mark: str) -> Path:
    """A bundle that nobody loads: three files, one of them marked."""
    from modelmill.models.bundle import BundleInfo

    folder.mkdir(parents=True)
    (folder / "tokenizer.json").write_text(json.dumps({"mark": mark}))
    (folder / "model.onnx").write_bytes(b"no graph")
    BundleInfo(
        format="onnx", label="topic", classes=("a", "b"), text="body", max_tokens=8, parameters=1
    ).save(folder)
    return folder


def promote_many(worker: int, count: int, scratch: Path) -> None:
    """What one process does; it goes on where an earlier one of the same number was killed."""
    from modelmill.artifacts import DatasetRef, VerdictRef
    from modelmill.component import StepContext
    from modelmill.registry import promotion
    from modelmill.registry.bundles import log_model
    from modelmill.registry.tracking import experiment_id, open_run, tracking_client
    from modelmill.settings import Settings

    settings = Settings.from_environment()
    client = tracking_client(settings.tracking_uri)
    experiment = experiment_id(client, "race", artifact_root=artifact_root(scratch, settings.tracking_uri))
    dataset = DatasetRef(uri="/rows", version=0, key="id", text="body", labels=("topic",), split="split")
    stale = 0
    for number in range(count):
        key = f"{worker:02d}-{number:03d}"
        done = scratch / "done" / key
        if done.exists():
            continue
        context = StepContext(
            pipeline="race",
            step="promote",
            step_key=key,
            run=open_run(client, experiment, key, name="promote", tags={}),
            workdir=scratch,
            cache=settings.home / "cache",
            settings=settings,
            progress=lambda *_, **__: None,
            log=lambda _: None,
        )
        with tempfile.TemporaryDirectory(dir=scratch) as made:
            bundle = make_bundle(Path(made) / "bundle", key)
            model = log_model(bundle, role="exported", dataset=dataset, context=context)
        while True:
            verdict = VerdictRef(
                passed=True,
                name=NAME,
                challenger=model,
                champion_version=promotion.champion_version(NAME, settings),
                reasons=(),
                uri=f"runs:/{context.run.run_id}/gate/verdict.json",
                run_id=context.run.run_id,
            )
            try:
                promotion.promote(verdict, context)
                break
            except promotion.StaleVerdictError:
                stale += 1
                time.sleep(random.uniform(0, 0.2))
        done.touch()
    print(json.dumps({"worker": worker, "stale": stale}))


def artifact_root(scratch: Path, tracking_uri: str) -> Path | None:
    return None if tracking_uri.startswith("http") else scratch / "artifacts"


def watch(scratch: Path) -> None:
    """Write down each version that the alias is seen to point at, until there is a file ``stop``."""
    from modelmill.registry.promotion import champion_version
    from modelmill.settings import Settings

    settings, seen, looks, nobody = Settings.from_environment(), [], 0, 0
    while not (scratch / "stop").exists():
        version = champion_version(NAME, settings)
        looks += 1
        nobody += version is None and bool(seen)
        if version is not None and (not seen or seen[-1] != version):
            seen.append(version)
    (scratch / "watched.json").write_text(json.dumps({"seen": seen, "looks": looks, "nobody": nobody}))


def spawn(scratch: Path, home: Path, log: Path, *arguments: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "MODELMILL_HOME": str(home), "MODELMILL_LEDGER": str(scratch / "ledger")}
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, __file__, *arguments, "--scratch", str(scratch)],
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )


def race(arguments: argparse.Namespace, scratch: Path) -> dict[str, object]:
    homes = [scratch / ("home" if arguments.one_machine else f"home-{n}") for n in range(arguments.processes)]
    (scratch / "done").mkdir()
    logs = [scratch / f"worker-{number}.log" for number in range(arguments.processes)]

    def start(number: int) -> subprocess.Popen[bytes]:
        wanted = ("--worker", str(number), "--promotions", str(arguments.promotions))
        return spawn(scratch, homes[number], logs[number], *wanted)

    began, kills, failures = time.monotonic(), 0, 0
    watcher = spawn(scratch, scratch / "home-watcher", scratch / "watcher.log", "--watch")
    workers = {number: start(number) for number in range(arguments.processes)}
    while workers and time.monotonic() - began < DEADLINE_SECONDS:
        time.sleep(0.2)
        ready = len(list((scratch / "done").iterdir())) > kills
        if kills < arguments.kill and ready:
            victim = random.choice(list(workers.values()))
            time.sleep(random.uniform(0, 0.5))
            victim.kill()
            kills += 1
        for number, process in list(workers.items()):
            status = process.poll()
            if status == -signal.SIGKILL:
                workers[number] = start(number)
            elif status is not None:
                failures += status != 0
                del workers[number]
    for process in workers.values():
        process.kill()
        failures += 1
    (scratch / "stop").touch()
    watcher.wait(60)
    return {
        **judged(scratch, arguments),
        "errors": failures,
        "kills": kills,
        "seconds": round(time.monotonic() - began, 1),
    }


def judged(scratch: Path, arguments: argparse.Namespace) -> dict[str, object]:
    from modelmill.registry.ledger import entries
    from modelmill.registry.promotion import champion_version
    from modelmill.settings import Settings

    os.environ |= {"MODELMILL_HOME": str(scratch / "home"), "MODELMILL_LEDGER": str(scratch / "ledger")}
    settings = Settings.from_environment()
    rows = entries(settings, model=NAME)
    place = {row.to_version: row.number for row in rows}
    watched = json.loads((scratch / "watched.json").read_text())
    seen = [place.get(version, -1) for version in watched["seen"]]
    wanted = {f"{w:02d}-{n:03d}" for w in range(arguments.processes) for n in range(arguments.promotions)}
    stale = [json.loads(line)["stale"] for log in scratch.glob("worker-*.log") for line in _reports(log)]
    return {
        "promotions": len(rows),
        "lost rows": len(wanted - {row.step_key for row in rows}),
        "rows twice": len(rows) - len({row.step_key for row in rows}),
        "rows that do not follow": sum(
            after.from_version != before.to_version for before, after in pairwise(rows)
        ),
        "backward moves": sum(after <= before for before, after in pairwise(seen)),
        "looks at the alias": watched["looks"],
        "champions seen": len(seen),
        "looks without a champion": watched["nobody"],
        "alias is the last row": champion_version(NAME, settings) == rows[-1].to_version,
        "verdicts made again": sum(stale),
    }


def _reports(log: Path) -> list[str]:
    return [line for line in log.read_text().splitlines() if line.startswith("{")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--promotions", type=int, default=25)
    parser.add_argument("--one-machine", action="store_true")
    parser.add_argument("--kill", type=int, default=0)
    parser.add_argument("--scratch", type=Path)
    parser.add_argument("--worker", type=int)
    parser.add_argument("--watch", action="store_true")
    arguments = parser.parse_args()
    if arguments.watch:
        return watch(arguments.scratch)
    if arguments.worker is not None:
        return promote_many(arguments.worker, arguments.promotions, arguments.scratch)
    scratch = arguments.scratch or Path(tempfile.mkdtemp(prefix="modelmill-race-"))
    scratch.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        if not os.environ.get("MLFLOW_TRACKING_URI"):
            from demo.servers import LocalMlflow

            server = stack.enter_context(LocalMlflow(scratch / "mlflow"))
            os.environ["MLFLOW_TRACKING_URI"] = server.url
        result = race(arguments, scratch)
    for name, value in result.items():
        print(f"{name:26} {value}")
    wrong = (
        "lost rows",
        "rows twice",
        "rows that do not follow",
        "backward moves",
        "looks without a champion",
        "errors",
    )
    failed = any(result[name] for name in wrong) or not result["alias is the last row"]
    if failed:
        print(f"see {scratch}")
        sys.exit(1)
    if arguments.scratch is None:
        shutil.rmtree(scratch)
    return None


if __name__ == "__main__":
    main()
