"""A step in a process of its own, which can be killed; small images and an encoder of them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.library.training.photos import rows

from modelmill.artifacts import DatasetRef
from modelmill.component import StepContext

_STEP = """
import sys
from pathlib import Path

sys.path[:0] = {paths}
import torch

torch.set_num_threads(1)
from modelmill.component import StepContext
from modelmill.registry.tracking import open_run, tracking_client
from modelmill.settings import Settings

settings = Settings.from_environment()
run = open_run(tracking_client(settings.tracking_uri), {experiment!r}, "0" * 64, name="step", tags={{}})
context = StepContext(
    pipeline="tests", step="step", step_key="0" * 64, run=run,
    workdir=Path({workdir!r}), cache=Path({workdir!r}),
    settings=settings, progress=lambda done, total, **figures: print("step", int(done), flush=True),
)
{code}
"""


@pytest.fixture
def step_process(step_context: StepContext) -> Callable[[Path, str], subprocess.Popen[str]]:
    """Return a function that starts ``code`` with a ``context`` in a work directory.

    The code may import the tests of this folder. It prints ``step N`` for each step of a training.
    """
    here = Path(__file__).parent

    def start(workdir: Path, code: str) -> subprocess.Popen[str]:
        script = _STEP.format(
            paths=[str(here), str(here.parents[1])],
            experiment=step_context.run.experiment_id,
            workdir=str(workdir),
            code=code,
        )
        return subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)

    return start


@pytest.fixture(scope="session")
def image_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ResNet of two layers with random weights."""
    import torch
    from transformers import ResNetConfig, ResNetModel

    folder = tmp_path_factory.mktemp("encoder")
    torch.manual_seed(0)
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 12], depths=[1, 1], layer_type="basic")
    ResNetModel(config).save_pretrained(folder)
    said = {"size": {"height": 16, "width": 16}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    (folder / "preprocessor_config.json").write_text(json.dumps(said))
    return folder


@pytest.fixture
def photos(tmp_path: Path) -> DatasetRef:
    """90 images with a class, a set of classes and a number."""
    import pyarrow as pa
    from deltalake import write_deltalake

    uri = str(tmp_path / "tables" / "photos")
    write_deltalake(uri, pa.table(rows(90)))
    labels = ("kind", "traits", "light")
    return DatasetRef(uri=uri, version=0, key="id", text=None, image="photo", labels=labels, split="split")
