"""Old runs behind a real MLflow server: their files go through it, its rows are for ``mlflow gc``."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from demo.servers import LocalMlflow

from modelmill.artifacts import DatasetRef
from modelmill.cli.old_results import old_results
from modelmill.component import StepContext
from modelmill.registry.bundles import log_model
from modelmill.registry.tracking import experiment_id, open_run, tracking_client
from modelmill.settings import Settings


def test_files_of_old_runs_go_through_the_server(
    tmp_path: Path,
    make_bundle: Callable[..., Path],
    topic_dataset: DatasetRef,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with LocalMlflow(tmp_path / "mlflow") as mlflow:
        mlflow.wait_ready(timeout=120)
        monkeypatch.setenv("MODELMILL_HOME", str(tmp_path / "home"))
        monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow.url)
        settings = Settings.from_environment()
        client = tracking_client(settings.tracking_uri)
        run = open_run(client, experiment_id(client, "daily"), "a" * 64, name="step", tags={})
        context = StepContext(
            pipeline="daily",
            step="step",
            step_key="a" * 64,
            run=run,
            workdir=tmp_path,
            cache=tmp_path / "cache",
            settings=settings,
            progress=lambda done, total, **figures: None,
            log=lambda line: None,
        )
        model = log_model(make_bundle("old"), role="exported", dataset=topic_dataset, context=context)
        run.log_json({"rows": 3}, "report.json")
        run.finish({"model": model})
        stored = [path for path in (tmp_path / "mlflow").rglob("*") if path.is_file()]
        assert any(path.name == "model.onnx" for path in stored)
        assert any(path.name == "report.json" for path in stored)
        later = time.time() + 40 * 86_400

        def old() -> list[str]:
            gone = old_results(settings, tables=(), run_days=30, now=later, say=lambda _: None)
            return [one.what for one in gone if one.remove()]

        assert old() == [f"run {run.run_id} of daily/"]
        left = [path.name for path in (tmp_path / "mlflow").rglob("*") if path.is_file()]
        assert not {"model.onnx", "report.json"} & set(left)
        assert client.get_run(run.run_id).info.lifecycle_stage == "deleted"
        assert old() == []  # what is left is rows, which only the server's own mlflow gc removes
