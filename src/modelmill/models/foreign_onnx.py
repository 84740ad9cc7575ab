"""An ONNX file from elsewhere, read as the hostile input that it may be.

A graph is no code, but it can name other files, operators of libraries that are not there, loops that do not
end and values that do not fit the memory. So it is one plain file of bounded size, with ONNX's own operators
and ONNX Runtime's, without loops; and it answers for the first time in a process with limits.
"""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from modelmill.errors import ModelError

MOST_BYTES = 1 << 30
"""Size of the file. (A file of ONNX cannot have 2 GB.)"""
MOST_NODES = 100_000
LEAST_OPSET = 8
"""Before it, Max did not broadcast."""
TRIAL_SECONDS = 120
TRIAL_BYTES = 8 << 30
_DOMAINS = ("", "ai.onnx", "com.microsoft")
"""ONNX's own operators, and those that ONNX Runtime has beside them."""
_LOOPS = ("Loop", "Scan", "SequenceMap")


def read_foreign(path: Path) -> Any:
    """Read an ONNX file, and refuse what no classifier of images needs.

    :param path: the file.
    :return: its ``onnx.ModelProto``.
    :raises ModelError: naming what is refused: no plain file, a file that is too large or no ONNX, weights in
        other files, operators that ONNX Runtime does not have, loops, an old opset.
    """
    import onnx

    content = _content(path)
    try:
        model = onnx.load_model_from_string(content)
    except Exception as error:  # protobuf's errors share no base class with Python's
        raise ModelError(
            f"an imported model is a whole ONNX file ({type(error).__name__})",
            got=str(path),
            remedy="export it again",
        ) from error
    if not model.graph.node:
        raise ModelError("an imported model has a graph", got=f"none in {path}", remedy="export it again")
    _check_opset(model, path)
    graphs = [*_graphs(model.graph, path), *(_graphs_of_functions(model, path))]
    _check_nodes(model, graphs, path)
    _check_tensors(graphs, path)
    return model


def _content(path: Path) -> bytes:
    try:
        state = path.stat()
        if not stat.S_ISREG(state.st_mode):
            raise ModelError("an imported model is a plain file", got=str(path), remedy="name its .onnx file")
        if state.st_size > MOST_BYTES:
            raise ModelError(
                f"an imported model has at most {MOST_BYTES >> 20:,} MiB",
                got=f"{path}, {state.st_size:,} bytes",
                remedy="quantise it, or take a smaller one",
            )
        with path.open("rb") as file:
            return file.read(MOST_BYTES + 1)[: MOST_BYTES + 1]
    except OSError as error:
        raise ModelError(
            f"an imported model must be readable ({error.strerror})",
            got=str(path),
            remedy="check the path, and this user's right to read it",
        ) from error


def _check_opset(model: Any, path: Path) -> None:
    versions = {one.domain or "ai.onnx": one.version for one in model.opset_import}
    if versions.get("ai.onnx", 0) < LEAST_OPSET:
        raise ModelError(
            f"an imported model has opset {LEAST_OPSET} or later",
            got=f"{versions.get('ai.onnx', 'none')} in {path}",
            remedy="convert it with onnx.version_converter",
        )


def _graphs(graph: Any, path: Path) -> Iterator[Any]:
    """Yield a graph and those within its nodes, without recursion."""
    waiting, nodes = [graph], 0
    while waiting:
        one = waiting.pop()
        nodes += len(one.node)
        if nodes > MOST_NODES:
            raise ModelError(
                f"an imported model has at most {MOST_NODES:,} nodes",
                got=f"more in {path}",
                remedy="simplify it",
            )
        yield one
        for node in one.node:
            for attribute in node.attribute:
                waiting += [attribute.g] if attribute.HasField("g") else []
                waiting += attribute.graphs


def _graphs_of_functions(model: Any, path: Path) -> Iterator[Any]:
    for function in model.functions:
        yield from _graphs(function, path)


def _check_nodes(model: Any, graphs: list[Any], path: Path) -> None:
    own = {(function.domain, function.name) for function in model.functions}
    for graph in graphs:
        for node in graph.node:
            if node.domain not in _DOMAINS and (node.domain, node.op_type) not in own:
                raise ModelError(
                    "an imported model has ONNX's operators, and no library's",
                    got=f"{node.domain}.{node.op_type} in {path}",
                    remedy="export it without custom operators",
                )
            if node.op_type in _LOOPS:
                raise ModelError(
                    "an imported model has no loops: some image could make them endless",
                    got=f"{node.op_type} in {path}",
                    remedy="export it with its loops unrolled",
                )


def _check_tensors(graphs: list[Any], path: Path) -> None:
    from onnx import TensorProto

    for graph in graphs:
        for tensor in _tensors(graph):
            if tensor.data_location == TensorProto.EXTERNAL:
                named = {one.key: one.value for one in tensor.external_data}
                raise ModelError(
                    "an imported model is one file, with all its weights in it",
                    got=f"{tensor.name or 'a constant'} in {named.get('location', 'no file')}, for {path}",
                    remedy="save it with onnx.save(onnx.load(PATH), NEW_PATH): that takes them in",
                )


def _tensors(graph: Any) -> Iterator[Any]:
    """Yield the weights and constants of a graph; functions have no weights of their own."""
    yield from getattr(graph, "initializer", ())
    for sparse in getattr(graph, "sparse_initializer", ()):
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        for attribute in node.attribute:
            yield from [attribute.t] if attribute.HasField("t") else []
            yield from attribute.tensors
            for sparse in [*([attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else ())]:
                yield from (sparse.values, sparse.indices)
            for sparse in attribute.sparse_tensors:
                yield from (sparse.values, sparse.indices)


def first_answers(path: Path) -> list[list[float]]:
    """Return what a graph makes of a black, a white and a noisy image, in a process with limits.

    :param path: a graph with the input ``pixels`` and the output ``logits``, and nothing in other files.
    :return: the output's numbers for each image.
    :raises ModelError: if ONNX Runtime does not load it, or it answers no image, or not within the limits.
    """
    command = [sys.executable, "-m", "modelmill.models.onnx_trial", str(path), str(TRIAL_BYTES)]
    names = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "HOME")
    environment = {name: os.environ[name] for name in names if name in os.environ}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=TRIAL_SECONDS, env=environment, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise ModelError(
            f"an imported model answers three images within {TRIAL_SECONDS} s",
            got=str(path),
            remedy="take a smaller one",
        ) from error
    if done.returncode == 0:
        answers: list[list[float]] = json.loads(done.stdout.splitlines()[-1])
        return answers
    said = done.stderr.strip().splitlines()
    raise ModelError(
        f"ONNX Runtime must load an imported model and run it on an image "
        f"({said[-1][:300] if said else f'the process ended with {done.returncode}'})",
        got=str(path),
        remedy="check layout and resize, or export it again",
    )
