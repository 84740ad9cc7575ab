"""Every wrong input ends in one line with rule, value and remedy, and leaves nothing half-made behind."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import yaml
from deltalake import write_deltalake

from modelmill.artifacts import AnyReference
from modelmill.errors import InputError
from modelmill.pipeline.expansion import expand
from modelmill.pipeline.local_run import request_for
from modelmill.pipeline.runner import run_step
from modelmill.pipeline.validation import load_pipeline
from modelmill.registry.tracking import tracking_client
from modelmill.settings import Settings

Document = dict[str, object]


def texts(count: int = 40) -> list[dict[str, object]]:
    """Rows of a small table: two topics that a word tells apart."""
    return [
        {
            "id": f"r{number}",
            "body": f"{'grain ship' if number % 2 else 'bank rate'} number{number}",
            "topic": "grain" if number % 2 else "money",
            "part": "test" if number % 5 == 0 else "train",
        }
        for number in range(count)
    ]


def write(path: Path, rows: list[dict[str, object]]) -> None:
    import pyarrow as pa

    write_deltalake(str(path), pa.Table.from_pylist(rows))


def pipeline(tmp_path: Path, base_model: Path) -> Document:
    return {
        "pipeline": "bad_inputs",
        "steps": {
            "raw": {"component": "delta_table", "config": {"uri": str(tmp_path / "table")}},
            "dataset": {
                "component": "build_dataset",
                "inputs": {"table": "raw.table"},
                "config": {
                    "key": "id",
                    "text": "body",
                    "labels": ["topic"],
                    "split": {"column": "part"},
                    "to": str(tmp_path / "dataset"),
                },
            },
            "teacher": {
                "component": "fine_tune",
                "inputs": {"dataset": "dataset.dataset"},
                "config": {"base_model": str(base_model), "epochs": 1},
            },
        },
    }


def config_of(document: Document, step: str) -> dict[str, object]:
    return document["steps"][step]["config"]  # type: ignore[index,no-any-return]  # a document of YAML


def no_table(document: Document, tmp_path: Path) -> None:
    config_of(document, "raw")["uri"] = str(tmp_path / "nowhere")


def not_delta(document: Document, tmp_path: Path) -> None:
    folder = tmp_path / "plain"
    folder.mkdir()
    (folder / "file.txt").write_text("no table")
    config_of(document, "raw")["uri"] = str(folder)


def wrong_text_column(document: Document, tmp_path: Path) -> None:
    write(tmp_path / "table", texts())
    config_of(document, "dataset")["text"] = "bdy"


def wrong_label_column(document: Document, tmp_path: Path) -> None:
    write(tmp_path / "table", texts())
    config_of(document, "dataset")["labels"] = ["topics"]


def one_class(document: Document, tmp_path: Path) -> None:
    write(tmp_path / "table", [{**row, "topic": "grain"} for row in texts()])


def empty_texts(document: Document, tmp_path: Path) -> None:
    write(
        tmp_path / "table",
        [{**row, "body": " \t" if number % 2 else ""} for number, row in enumerate(texts())],
    )


def label_only_in_test(document: Document, tmp_path: Path) -> None:
    rows = texts()
    rows[0]["topic"] = "gold"
    write(tmp_path / "table", rows)


def unknown_split(document: Document, tmp_path: Path) -> None:
    write(
        tmp_path / "table",
        [{**row, "part": "holdout" if row["part"] == "test" else "train"} for row in texts()],
    )


def no_base_model(document: Document, tmp_path: Path) -> None:
    write(tmp_path / "table", texts())
    config_of(document, "teacher")["base_model"] = str(tmp_path / "no_model")


def remote_code(document: Document, tmp_path: Path) -> None:
    write(tmp_path / "table", texts())
    path = Path(str(config_of(document, "teacher")["base_model"])) / "config.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "auto_map": {"AutoModel": "evil.Evil"}}))


def damaged_weights(document: Document, tmp_path: Path) -> None:
    write(tmp_path / "table", texts())
    path = Path(str(config_of(document, "teacher")["base_model"])) / "model.safetensors"
    path.write_bytes(path.read_bytes()[:100])


def cycle(document: Document, tmp_path: Path) -> None:
    document["steps"]["a"] = {  # type: ignore[index]  # a document of YAML
        "component": "distill",
        "inputs": {"dataset": "dataset.dataset", "teacher": "b.model"},
    }
    document["steps"]["b"] = {  # type: ignore[index]  # a document of YAML
        "component": "distill",
        "inputs": {"dataset": "dataset.dataset", "teacher": "a.model"},
    }


def wrong_edge(document: Document, tmp_path: Path) -> None:
    document["steps"]["teacher"]["inputs"]["dataset"] = "raw.table"  # type: ignore[index]  # a document of YAML


def unknown_key(document: Document, tmp_path: Path) -> None:
    config_of(document, "teacher")["epoch"] = 1


def unwritable(document: Document, tmp_path: Path) -> None:
    write(tmp_path / "table", texts())
    (tmp_path / "file").write_text("a file where a folder is wanted")
    config_of(document, "dataset")["to"] = str(tmp_path / "file" / "dataset")


CASES: dict[Callable[[Document, Path], None], tuple[str, ...]] = {
    no_table: ("nowhere",),
    not_delta: ("plain", "Delta"),
    wrong_text_column: ("'bdy'", "did you mean 'body'"),
    wrong_label_column: ("'topics'", "did you mean 'topic'"),
    one_class: ("topic", "grain"),
    empty_texts: ("body",),
    label_only_in_test: ("topic", "gold"),
    unknown_split: ("holdout",),
    no_base_model: ("no_model",),
    remote_code: ("auto_map",),
    damaged_weights: ("model.safetensors",),
    cycle: ("cycle", "b -> a -> b"),
    wrong_edge: ("takes a dataset", "raw.table"),
    unknown_key: ("'epoch'", "did you mean 'epochs'"),
    unwritable: ("file",),
}


BY_COMMAND = (no_table, one_class, damaged_weights, cycle)
"""Cases of each stage, as a user runs them; the others are told by the same exception, in this process."""


def by_command(path: Path, _settings: Settings) -> str:
    """Run a pipeline as a user does; return the line that it ends in."""
    ended = subprocess.run(
        [sys.executable, "-m", "modelmill", "run", str(path)], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 2, ended.stdout + ended.stderr
    assert "Traceback" not in ended.stdout + ended.stderr
    return ended.stderr.strip()


def in_process(path: Path, settings: Settings) -> str:
    """Run a pipeline's steps here; return what the first one that refuses says."""
    with pytest.raises(InputError) as refused:
        run_here(path, settings)
    return str(refused.value)


def run_here(path: Path, settings: Settings) -> None:
    outputs: dict[str, Mapping[str, AnyReference]] = {}
    expansion = expand(load_pipeline(str(path)))
    for step in expansion.spec.order():
        outputs[step] = run_step(request_for(expansion, step, {}, outputs), settings).outputs


@pytest.mark.parametrize("spoil", CASES, ids=lambda spoil: spoil.__name__)
def test_bad_input_ends_in_one_line_and_leaves_nothing(
    spoil: Callable[[Document, Path], None], tmp_path: Path, tiny_base_model: Path, settings: Settings
) -> None:
    base_model = shutil.copytree(tiny_base_model, tmp_path / "base_model")
    document = pipeline(tmp_path, base_model)
    spoil(document, tmp_path)
    path = tmp_path / "pipeline.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False))

    told = (by_command if spoil in BY_COMMAND else in_process)(path, settings)
    (line,) = told.splitlines()
    for part in CASES[spoil]:
        assert part in line
    assert ";" in line, "rule, value and remedy"
    client = tracking_client(settings.tracking_uri)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    failed = [run for run in client.search_runs(experiments) if run.info.status != "FINISHED"]
    assert failed == []
    assert list(client.search_model_versions()) == []
    made = spoil in (no_base_model, damaged_weights)
    assert (tmp_path / "dataset").exists() == made, "a refused step leaves no table"
