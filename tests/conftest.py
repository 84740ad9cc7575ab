"""Fixtures that several test folders share. Everything in them is real and tiny."""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import os
import shutil
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from modelmill.artifacts import DatasetRef
from modelmill.component import StepContext
from modelmill.datasets.options import LabelKind
from modelmill.pipeline import pipeline_files
from modelmill.pipeline.catalogue import catalogue
from modelmill.registry.tracking import experiment_id, open_run, tracking_client
from modelmill.settings import Settings
from modelmill.system.scratch import scratch_folder

if TYPE_CHECKING:
    import numpy as np
    import onnx

# What tests and their processes leave behind (files that MLflow downloads, folders of steps that are killed,
# blocks of a JVM) goes at the end of the tests; what killed tests leave goes when the next ones begin. pytest
# keeps its own folders of the last three runs where it always does.
os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", tempfile.gettempdir())
_HELD = contextlib.ExitStack()
_SCRATCH = _HELD.enter_context(scratch_folder("modelmill-tests-"))
_SCRATCH.chmod(0o711)  # PostgreSQL runs as another user
atexit.register(_HELD.close)
tempfile.tempdir = None  # it is looked up again
# Airflow reads its home when it is first imported: no test may touch the user's.
_AIRFLOW_HOME = _SCRATCH / "airflow"
_AIRFLOW_HOME.mkdir()
os.environ |= {
    "TMPDIR": str(_SCRATCH),
    "AIRFLOW_HOME": str(_AIRFLOW_HOME),
    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
}

if "PYTEST_XDIST_WORKER" in os.environ:
    # The main module of pytest-xdist has neither file nor spec, which PySpark takes for its own doctests.
    # A spec without a name is none for multiprocessing, which would import the main module by it.
    sys.modules["__main__"].__spec__ = SimpleNamespace(name=None)  # type: ignore[assignment]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give each process whole files, and a folder whose files share an Airflow to one process."""
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            for folder in ("tests/e2e", "tests/integration/shared_airflow"):
                if nodeid.startswith(f"{folder}/"):
                    return folder
            return str(super()._split_scope(nodeid))

    return Scheduling(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the library's files last: they are many and short, so that all processes end together.

    Those with the most examples in CI come first of them: a process has one of them for ten minutes.
    """
    library, first = "tests/library/", "tests/library/simulation/"
    items.sort(key=lambda item: (item.nodeid.startswith(library), not item.nodeid.startswith(first)))


def pytest_collection_finish() -> None:
    """Search for garbage less often: among what tests import, that took a fifth of the time of one file."""
    gc.freeze()
    gc.set_threshold(10_000, 10, 10)


TOY_COMPONENTS = '''
"""Components of another distribution: what a third party ships."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from modelmill.artifacts import ModelRef, TableRef, VerdictRef
from modelmill.errors import DatasetError, TransientError
from modelmill.component import Assets, Component, Config, Inputs, Outputs


class CountConfig(Config):
    """Write down a number, once for each real run."""

    journal: str
    number: int = 0
    behaviour: str = "work"


class MaybeTable(Inputs):
    table: TableRef | None = None


class Table(Outputs):
    table: TableRef


def _run(config, inputs, context):
    journal = Path(config.journal)
    with journal.open("a") as file:
        file.write(f"{context.step}\\n")
    attempts = journal.read_text().count(f"{context.step}\\n")
    context.progress(1, 2, what="epochs", number=config.number)
    context.log(f"attempt {attempts} of {context.step}")
    if config.behaviour == "refuse":
        raise DatasetError("a number must be even", got=config.number, remedy="add one")
    if config.behaviour == "flaky" and attempts == 1:
        raise TransientError("the weather must be fine", remedy="wait")
    if config.behaviour == "die" and attempts == 1:
        (context.workdir / "checkpoint").write_text("half")
        os.kill(os.getpid(), signal.SIGKILL)
    if config.behaviour == "die" and (context.workdir / "checkpoint").read_text() != "half":
        raise RuntimeError("the dead attempt's checkpoint is gone")
    if config.behaviour == "meet":
        deadline = time.monotonic() + 120
        while journal.read_text().count("\\n") < 2:
            if time.monotonic() > deadline:
                raise RuntimeError("nobody else came")
            time.sleep(0.05)
    if config.behaviour == "sleep":
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        journal.with_suffix(".pid").write_text(str(child.pid))
        time.sleep(600)
    if config.behaviour == "nothing":
        return None
    version = config.number + (inputs.table.version if inputs.table else 0)
    return Table(table=TableRef(uri="/toy", version=version))


def _events(config, outputs):
    return ("toy://loud/count",) if config.behaviour == "loud" else ()


count = Component(
    name="count",
    title="Count",
    group="Data",
    config=CountConfig,
    inputs=MaybeTable,
    outputs=Table,
    run=_run,
    events=_events,
    assets=lambda config, upstream: Assets(conditional=("toy://loud/count",)),
)


class JudgeConfig(Config):
    """Accept small numbers."""

    name: str = "toy"
    most: int = 10


class Judged(Outputs):
    verdict: VerdictRef


def _judge(config, inputs, context):
    model = ModelRef(uri="models:/m-1", run_id="r", digest="d", format="onnx", role="exported")
    passed = inputs.table is None or inputs.table.version <= config.most
    return Judged(
        verdict=VerdictRef(
            passed=passed,
            name=config.name,
            challenger=model,
            champion_version=None,
            reasons=() if passed else ("too large",),
            uri="runs:/r/verdict.json",
            run_id="r",
        )
    )


judge = Component(
    name="judge",
    title="Judge",
    group="Check",
    config=JudgeConfig,
    inputs=MaybeTable,
    outputs=Judged,
    run=_judge,
)


class GatherConfig(Config):
    """Add up what several tables say."""


class Tables(Inputs):
    tables: tuple[TableRef, ...]


def _gather(config, inputs, context):
    return Table(table=TableRef(uri="/toy", version=sum(table.version for table in inputs.tables)))


gather = Component(
    name="gather",
    title="Gather",
    group="Data",
    config=GatherConfig,
    inputs=Tables,
    outputs=Table,
    run=_gather,
)
'''


@pytest.fixture(scope="session")
def toy_site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which another distribution is installed, which adds components."""
    site = tmp_path_factory.mktemp("toy") / "site"
    info = site / "toy_components-0.1.dist-info"
    info.mkdir(parents=True)
    (site / "toy_components.py").write_text(textwrap.dedent(TOY_COMPONENTS))
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-components\nVersion: 0.1\n")
    (info / "entry_points.txt").write_text("[modelmill.components]\ntoy = toy_components\n")
    return site


@pytest.fixture
def toy_components(toy_site: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Install another distribution that adds components, for this process and its children."""
    monkeypatch.syspath_prepend(str(toy_site))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(toy_site), os.environ.get("PYTHONPATH", "")]))
    importlib.invalidate_caches()
    catalogue.cache_clear()
    pipeline_files._parsed.cache_clear()
    yield
    catalogue.cache_clear()
    pipeline_files._parsed.cache_clear()
    sys.modules.pop("toy_components", None)


@pytest.fixture(scope="session")
def mlflow_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database with its tables made: that takes seconds, copying it takes none."""
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    tracking_client(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def settings(tmp_path: Path, mlflow_database: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A deployment of its own: home and MLflow below the test's folder, for this process and its children."""
    home = tmp_path / "home"
    shutil.copy(mlflow_database, tmp_path / "mlflow.db")
    monkeypatch.setenv("MODELMILL_HOME", str(home))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    for name in ("MODELMILL_LEDGER", "MODELMILL_SPARK_REMOTE", "MODELMILL_PYTHON"):
        monkeypatch.delenv(name, raising=False)
    return Settings.from_environment()


SPORT_WORDS = ("goal", "match", "team", "score", "league", "coach")
TRADE_WORDS = ("bank", "share", "price", "profit", "market", "loan")
FILLER_WORDS = ("the", "a", "of", "and", "today", "with", "new", "said")


def topic_rows(count: int, *, seed: int = 0) -> list[tuple[str, str]]:
    """Return texts of 3 to 12 words with the topic that two of their words give away."""
    random = Random(seed)
    rows = []
    for number in range(count):
        topic, words = (("sport", SPORT_WORDS), ("trade", TRADE_WORDS))[number % 2]
        text = random.choices(words, k=2) + random.choices(FILLER_WORDS, k=random.randint(1, 10))
        random.shuffle(text)
        rows.append((" ".join(text), topic))
    return rows


@pytest.fixture(scope="session", name="topic_rows")
def _topic_rows() -> Callable[..., list[tuple[str, str]]]:
    """The function :func:`topic_rows`: test modules cannot import this file."""
    return topic_rows


@pytest.fixture(scope="session")
def tiny_base_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of 2 layers and 32 features with random weights, whose vocabulary is that of ``topic_rows``."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("tiny_base_model")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *SPORT_WORDS, *TRADE_WORDS, *FILLER_WORDS]
    tokenizer = Tokenizer(models.WordLevel({word: n for n, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    special = [("[CLS]", 2), ("[SEP]", 3)]
    tokenizer.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", special_tokens=special)
    # As real ones come: with padding and a limit of their own, which must not be followed.
    tokenizer.enable_padding(length=8)
    tokenizer.enable_truncation(6)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    torch.manual_seed(0)
    BertModel(config).save_pretrained(folder)
    return folder


@pytest.fixture
def topic_dataset(tmp_path: Path) -> DatasetRef:
    """A dataset of 60 train, 20 validation and 20 test rows with the label ``topic``."""
    import pyarrow as pa
    from deltalake import write_deltalake

    rows = topic_rows(100)
    splits = ["train"] * 60 + ["validation"] * 20 + ["test"] * 20
    columns = {
        "id": [f"row-{number:03d}" for number in range(100)],
        "body": [text for text, _ in rows],
        "topic": [topic for _, topic in rows],
        "split": splits,
    }
    uri = tmp_path / "tables" / "topics"
    write_deltalake(str(uri), pa.table(columns))
    return DatasetRef(uri=str(uri), version=0, key="id", text="body", labels=("topic",), split="split")


@pytest.fixture
def step_context(settings: Settings, tmp_path: Path) -> StepContext:
    """What a component's ``run`` gets: a real MLflow run, empty folders, quiet progress."""
    client = tracking_client(settings.tracking_uri)
    experiment = experiment_id(client, "tests", artifact_root=tmp_path / "artifacts")
    run = open_run(client, experiment, "0" * 64, name="step", tags={})
    workdir, cache = tmp_path / "workdir", tmp_path / "cache"
    workdir.mkdir()
    cache.mkdir()
    return StepContext(
        pipeline="tests",
        step="step",
        step_key="0" * 64,
        run=run,
        workdir=workdir,
        cache=cache,
        settings=settings,
        progress=lambda done, total, **figures: None,
        log=lambda line: None,
    )


@pytest.fixture
def make_bundle(tmp_path: Path, tiny_base_model: Path) -> Callable[..., Path]:
    """Return a function that makes an ONNX bundle: logits are the sums of a weight for each word.

    ``make_bundle(name, skill=1.0)`` is always right on the tests' topics, ``skill=-1.0`` always wrong, and
    ``skill=0.5`` knows every second word.
    """
    import numpy as np
    import onnx
    from tokenizers import Tokenizer

    from modelmill.models.bundle import BundleInfo

    def make(name: str, *, skill: float = 1.0, tweak: float = 0.0, target: LabelKind = "class") -> Path:
        folder = tmp_path / "bundles" / name
        folder.mkdir(parents=True)
        tokenizer = Tokenizer.from_file(str(tiny_base_model / "tokenizer.json"))
        tokenizer.save(str(folder / "tokenizer.json"))
        weights = np.zeros((tokenizer.get_vocab_size(), 2), np.float32)
        known = round(6 * abs(skill))
        for first, column in ((4, 0), (10, 1)):  # the vocabulary has 4 special tokens, 6 and 6 topic words
            weights[first : first + known, column] = np.sign(skill)
        weights[2, 0] = tweak
        if target == "number":
            weights = weights[:, :1]
        onnx.save(_word_graph(weights), folder / "model.onnx")
        BundleInfo(
            format="onnx",
            label="topic",
            classes=() if target == "number" else ("sport", "trade"),
            target=target,
            text="body",
            max_tokens=32,
            parameters=weights.size,
        ).save(folder)
        return folder

    return make


def _word_graph(weights: np.ndarray) -> onnx.ModelProto:
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    shape = ["batch", "tokens"]
    nodes = [
        helper.make_node("Gather", ["weights", "input_ids"], ["looked_up"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["wide"]),
        helper.make_node("Mul", ["looked_up", "wide"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "tokens_axis"], ["logits"], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "words",
        [
            helper.make_tensor_value_info(name, TensorProto.INT64, shape)
            for name in ("input_ids", "attention_mask")
        ],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", weights.shape[1]])],
        [
            numpy_helper.from_array(weights, "weights"),
            numpy_helper.from_array(np.array([-1], np.int64), "last"),
            numpy_helper.from_array(np.array([1], np.int64), "tokens_axis"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
