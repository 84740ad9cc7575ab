"""Each bad input ends in one typed line, or in quarantine with a reason, and leaves nothing half-made."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from modelmill.artifacts import TableRef
from modelmill.errors import InputError
from modelmill.pipeline.request import StepRequest, StepResult
from modelmill.pipeline.runner import run_step
from modelmill.registry.tracking import tracking_client
from modelmill.settings import Settings
from modelmill.tables.reading import read_arrow
from modelmill.tables.versions import resolve_table


def _load(name: str) -> Any:
    """Load a module beside this one: test modules are in no package and on no path."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_load("bad_datasets")
CASES = [*_load("bad_files").INGEST, *_load("bad_tables").DELTA, *_load("bad_rows").BUILD]


@pytest.fixture(autouse=True)
def _one_engine(sail: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """All cases share one session: starting one takes longer than most cases."""
    monkeypatch.setattr("modelmill.jobs.session", lambda settings: contextlib.nullcontext(sail))


def run(case: Any, folder: Path, settings: Settings) -> StepResult:
    config = dict(case.make(folder))
    inputs = {}
    if case.component == "build_dataset":
        version = config.pop("@version") if "@version" in config else newest(folder)
        inputs["table"] = TableRef(uri=str(folder / "raw"), version=version)
    request = StepRequest(pipeline="bad", step="step", component=case.component, config=config, inputs=inputs)
    before = tree(folder)
    try:
        return run_step(request, settings)
    except InputError:
        assert tree(folder) == before, "a refused step leaves nothing"
        raise
    finally:
        assert not [path for path in tree(folder) if ".tmp" in path or ".probe" in path]
        client = tracking_client(settings.tracking_uri)
        runs = client.search_runs([item.experiment_id for item in client.search_experiments()])
        assert not [item for item in runs if item.info.status == "RUNNING"]


def newest(folder: Path) -> int:
    return resolve_table(str(folder / "raw")).version


def tree(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def marked(case: Any) -> Any:
    marks = []
    if case.wrong_today:
        marks.append(pytest.mark.xfail(strict=True, reason=case.wrong_today))
    if case.name == "file that may not be read":
        marks.append(pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything"))
    return pytest.param(case, id=f"{case.component}: {case.name}", marks=marks)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "data"
    path.mkdir()
    yield path
    for file in path.rglob("*"):
        if not file.is_symlink():
            file.chmod(0o700 if file.is_dir() else 0o600)


@pytest.mark.parametrize("case", [marked(case) for case in CASES])
def test_a_bad_input(case: Any, folder: Path, settings: Settings) -> None:
    if case.error:
        with pytest.raises(InputError) as caught:
            run(case, folder, settings)
        error = caught.value
        assert type(error) is case.error, error
        for part in case.said:
            assert part in str(error)
        assert "\n" not in str(error)
        assert "; " in str(error), "rule, value and remedy"
        assert len(str(error)) < 1500
        return
    result = run(case, folder, settings)
    refused: Counter[str] = Counter()
    if case.component == "build_dataset":
        quarantine = read_arrow(result.outputs["quarantine"])
        refused.update(quarantine["quarantine_reason"].to_pylist())
    assert refused == dict(case.reasons)
    out = result.outputs["dataset" if case.component == "build_dataset" else "table"]
    assert case.rows in (None, read_arrow(out).num_rows)


def test_there_are_enough_of_them() -> None:
    assert len({(case.component, case.name) for case in CASES}) == len(CASES) >= 60
