"""Every step that a command runs is asked for again at once: nothing new may come of it.

``./run python -m benchmarks.asked_again pytest tests/jobs`` runs a module of Python, here these tests. In
each of its processes (the tests' own, those of ``modelmill run``, Airflow's tasks) a step that has ended
well is asked for a second time, with the same request. It must give the same outputs without a new MLflow
run, logged model, version of a model, or file of a table. What was asked is printed at the end by component,
with the components that have not run. ``--log FILE`` adds to what is there: it counts over several commands.
"""

from __future__ import annotations

import argparse
import importlib.abc
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

_LOG = "MODELMILL_ASKED_AGAIN"
_RUNNER = "modelmill.pipeline.runner"


def watch() -> None:
    """Have each step of this process asked for twice, once the runner is imported."""
    sys.meta_path.insert(0, _RunnerFinder())


class _RunnerFinder(importlib.abc.MetaPathFinder):
    def find_spec(self, name: str, _path: object, _target: object = None) -> ModuleSpec | None:
        if name != _RUNNER:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            load = spec.loader.exec_module

            def exec_module(module: Any) -> None:
                load(module)
                module._run_step = _twice(module._run_step)  # noqa: SLF001 - nothing public is in each process

            spec.loader.exec_module = exec_module  # type: ignore[method-assign] # of this spec's loader alone
        return spec


def _twice(run: Callable[..., Any]) -> Callable[..., Any]:
    def both(request: Any, settings: Any, meter: Any) -> Any:
        first = run(request, settings, meter)
        if first.reused:
            return first
        line = {
            "component": request.component,
            "pid": os.getpid(),
            "test": os.environ.get("PYTEST_CURRENT_TEST"),
        }
        try:
            before = _made(request, settings, first)
            again = run(request, settings, type(meter).start())
            after = _made(request, settings, first)
            line["new"] = [name for name in before if before[name] != after[name]]
            if not again.reused:
                line["new"].append("a run of the component")
            if again.outputs != first.outputs:
                line["new"].append("outputs")
        except Exception as error:
            line["error"] = repr(error)[:500]
        with Path(os.environ[_LOG]).open("a") as log:
            log.write(json.dumps(line) + "\n")
        return first

    return both


def _made(request: Any, settings: Any, result: Any) -> dict[str, Any]:
    """Return what there is: runs, logged models, versions, and the files of the step's tables."""
    from modelmill.artifacts import DatasetRef, TableRef
    from modelmill.registry.tracking import experiment_id, tracking_client

    client = tracking_client(settings.tracking_uri)
    experiment = experiment_id(client, request.pipeline)
    runs = client.search_runs([experiment], max_results=1000)
    versions = client.search_model_versions("", max_results=1000)
    tables = [one.uri for one in result.outputs.values() if isinstance(one, TableRef | DatasetRef)]
    return {
        "runs": sorted((run.info.run_id, run.info.status, run.info.end_time) for run in runs),
        "models": sorted(model.model_id for model in client.search_logged_models([experiment])),
        "versions": sorted((one.name, int(one.version), sorted(one.aliases)) for one in versions),
        "files": sorted(
            str(file)
            for uri in tables
            for file in Path(uri.removeprefix("file://")).rglob("*")
            if file.is_file()
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--log", type=Path, help="what was asked, a line of JSON each; is added to")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="a module of Python and its arguments")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        log = (options.log or Path(folder) / "asked.jsonl").absolute()
        (Path(folder) / "sitecustomize.py").write_text(
            "try:\n    from benchmarks import asked_again\nexcept ImportError:\n    pass\n"
            "else:\n    asked_again.watch()\n"
        )
        places = (folder, str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", ""))
        given = {_LOG: str(log), "PYTHONPATH": os.pathsep.join(filter(None, places))}
        subprocess.run([sys.executable, "-m", *options.command], env=os.environ | given, check=False)
        lines = log.read_text().splitlines() if log.exists() else []
    sys.exit(not _report([json.loads(line) for line in lines]))


def _report(lines: list[dict[str, Any]]) -> bool:
    """Print what was asked; return whether anything was, and nothing new came of it."""
    from modelmill.pipeline.catalogue import catalogue

    asked, quiet = Counter[str](), Counter[str]()
    for line in lines:
        asked[line["component"]] += 1
        if line.get("new") == []:
            quiet[line["component"]] += 1
        else:
            print(line)
    print("| component | asked again | nothing new |")
    print("| --- | --- | --- |")
    for name in sorted(asked):
        print(f"| {name} | {asked[name]} | {quiet[name]} |")
    print("not run by this:", ", ".join(sorted(set(catalogue()) - set(asked))) or "none")
    print(f"{quiet.total()} of {asked.total()} steps of {len(asked)} components: nothing new")
    return asked == quiet and bool(asked)


if __name__ == "__main__":
    main()
