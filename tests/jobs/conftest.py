"""The engines that the jobs run on, and a tiny real model bundle."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from demo.servers import LocalSpark

from modelmill.artifacts import ModelRef, TableRef
from modelmill.datasets.build_record import Build
from modelmill.datasets.options import BuildOptions
from modelmill.datasets.request import BuildDatasetRequest
from modelmill.models.bundle import BundleInfo, bundle_digest
from modelmill.pipeline.request import StepRequest, StepResult
from modelmill.pipeline.runner import run_step
from modelmill.settings import Settings
from modelmill.spark import session
from modelmill.tables.reading import read_arrow
from modelmill_jobs import build_dataset

ROOT = Path(__file__).parents[2]
SPARK_CLASS = "org.apache.spark.sql.connect.service.SparkConnectServer"
START_SECONDS = 120


@pytest.fixture(scope="session")
def sail() -> Iterator[Any]:
    """A session of the embedded engine."""
    settings = Settings(
        home=Path(), ledger="", deployments="", spark_remote=None, python=sys.executable, tracking_uri=""
    )
    with session(settings) as spark:
        yield spark


def spark_home() -> Path:
    """The Spark distribution: the folder that scripts/fetch_spark.sh filled, or the test is skipped."""
    folder = LocalSpark.find(ROOT)
    if folder is None:
        pytest.skip("needs Java 17 and a Spark distribution: scripts/fetch_spark.sh")
    return folder


@pytest.fixture(scope="session")
def jvm_remote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a Spark Connect server on a JVM Spark with two threads."""
    home, folder = spark_home(), tmp_path_factory.mktemp("spark")
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = {
        "spark.connect.grpc.binding.address": "127.0.0.1",
        "spark.connect.grpc.binding.port": str(port),
        "spark.driver.bindAddress": "127.0.0.1",
        # Tables of a few hundred rows: planning and compiling for large ones would take a minute.
        "spark.sql.adaptive.enabled": "false",
        "spark.sql.codegen.wholeStage": "false",
        "spark.sql.shuffle.partitions": "1",
        "spark.sql.warehouse.dir": str(folder / "warehouse"),
        "spark.ui.enabled": "false",
    }
    command = [str(home / "bin/spark-submit"), "--class", SPARK_CLASS, "--master", "local[2]"]
    command += ["--driver-memory", "1g"]
    for name, value in settings.items():
        command += ["--conf", f"{name}={value}"]
    environment = {
        **os.environ,
        "SPARK_HOME": str(home),
        "SPARK_LOCAL_IP": "127.0.0.1",
        "SPARK_LOCAL_DIRS": str(folder / "local"),  # a JVM that is killed leaves its blocks
        "PYSPARK_PYTHON": sys.executable,
    }
    log = folder / "server.log"
    with log.open("w") as output:
        server = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=output, stderr=output, start_new_session=True
        )
    try:
        wait_for(server, log)
        yield f"sc://127.0.0.1:{port}"
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()


def wait_for(server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while "Spark Connect server started at" not in log.read_text():
        if server.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the Spark Connect server did not start:\n{log.read_text()[-3000:]}")
        time.sleep(0.2)


@pytest.fixture(scope="session")
def jvm(jvm_remote: str) -> Iterator[Any]:
    """A session of a JVM Spark."""
    settings = Settings(
        home=Path(),
        ledger="",
        deployments="",
        spark_remote=jvm_remote,
        python=sys.executable,
        tracking_uri="",
    )
    with session(settings) as spark:
        yield spark


@dataclass(frozen=True)
class Made:
    """What a build of a dataset made, read back."""

    build: Build
    place: str
    version: int
    dataset: pa.Table
    """In the order of the keys."""
    quarantine: pa.Table
    """In the order of all columns as text."""
    duplicates: pa.Table
    """In the same order."""

    @property
    def splits(self) -> dict[str, str]:
        """The split of each example by its key."""
        columns = self.dataset.select(["example_key", "split"]).to_pydict()
        return dict(zip(columns["example_key"], columns["split"], strict=True))


def in_order(rows: pa.Table) -> pa.Table:
    order = sorted(range(rows.num_rows), key=lambda row: str(rows.slice(row, 1).to_pylist()))
    return rows.take(pa.array(order, pa.int64()))


@pytest.fixture
def make_dataset(tmp_path: Path, request: pytest.FixtureRequest) -> Callable[..., Made]:
    """Return a function that writes rows to a table, in some files, and makes a dataset of it.

    The rows may be a table's path instead. The engine is the embedded one unless a session is handed in.
    """

    def make(
        rows: pa.Table | str,
        config: dict[str, Any],
        *,
        to: str = "dataset",
        files: int = 1,
        transaction: str | None = None,
        spark: Any = None,
    ) -> Made:
        if isinstance(rows, str):
            source = rows
        else:
            source, each = str(tmp_path / f"source_{to}"), -(-rows.num_rows // files)
            for start in range(0, max(rows.num_rows, 1), max(each, 1)):
                write_deltalake(source, rows.slice(start, each), mode="append" if start else "overwrite")
        version = DeltaTable(source).version()
        asked = BuildDatasetRequest(
            table=TableRef(uri=source, version=version),
            options=BuildOptions.model_validate(config),
            to=str(tmp_path / to),
            transaction=transaction or f"{to}-{version}",
        )
        made = build_dataset.main(asked, spark or request.getfixturevalue("sail"))
        return Made(
            build=made.build,
            place=made.dataset.uri,
            version=made.dataset.version,
            dataset=read_arrow(made.dataset),
            quarantine=in_order(read_arrow(made.quarantine)),
            duplicates=in_order(read_arrow(made.duplicates)),
        )

    return make


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ModelRef]:
    """A model in ONNX that knows two words: the mean of an embedding per token, which is its logits."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper
    from tokenizers import Tokenizer, models, pre_tokenizers

    folder = tmp_path_factory.mktemp("bundle")
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "grain": 1, "bank": 2}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    weights = np.array([[0, 0], [2, -2], [-2, 2]], dtype=np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["weights", "input_ids"], ["tokens"]),
            helper.make_node("ReduceSum", ["tokens", "axis"], ["logits"], keepdims=0),
        ],
        "words",
        [
            helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["rows", "tokens"]),
            helper.make_tensor_value_info("attention_mask", TensorProto.INT64, ["rows", "tokens"]),
        ],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["rows", 2])],
        [numpy_helper.from_array(weights, "weights"), numpy_helper.from_array(np.array([1]), "axis")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, folder / "model.onnx")
    info = BundleInfo(
        format="onnx", label="topic", classes=("grain", "money"), text="text", max_tokens=16, parameters=6
    )
    info.save(folder)
    reference = ModelRef(
        uri="models:/words/1", run_id="0", digest=bundle_digest(folder), format="onnx", role="exported"
    )
    return folder, reference


@pytest.fixture
def step(settings: Settings) -> Callable[..., StepResult]:
    """Runs one step of a pipeline."""

    def run(component: str, config: dict[str, Any], **inputs: Any) -> StepResult:
        request = StepRequest(
            pipeline="news", step=component, component=component, config=config, inputs=inputs
        )
        return run_step(request, settings)

    return run
