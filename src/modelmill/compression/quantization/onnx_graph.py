"""ONNX graphs that are being rewritten, and the files in between."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np


@dataclass
class Graph:
    """A graph that is being rewritten: nodes are replaced by none, one or several others."""

    model: Any
    replaced: dict[str, list[Any]] = field(default_factory=dict)
    """By the name of a node, what comes in its place."""

    def __post_init__(self) -> None:
        from onnx import numpy_helper

        graph = self.model.graph
        self.weights = {one.name: numpy_helper.to_array(one) for one in graph.initializer}
        self.made_by = {output: node for node in graph.node for output in node.output}
        self.readers: dict[str, list[Any]] = {}
        for node in graph.node:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)

    def products(self) -> dict[str, list[Any]]:
        """Return the matrix products with weights, by the value that they read."""
        found: dict[str, list[Any]] = {}
        for node in self.model.graph.node:
            if node.op_type == "MatMul" and node.input[1] in self.weights:
                found.setdefault(node.input[0], []).append(node)
        return found

    def operator_of(self, value: str) -> str:
        """Return the operator that makes a value; empty for an input of the graph."""
        node = self.made_by.get(value)
        return node.op_type if node else ""

    def constant(self, name: str, value: np.ndarray) -> str:
        """Add a constant, unless there is one of that name; return the name."""
        from onnx import numpy_helper

        if name not in self.weights:
            self.weights[name] = value
            self.model.graph.initializer.append(numpy_helper.from_array(value, name))
        return name

    def apply(self) -> None:
        """Apply the replacements, and drop constants that nothing reads any more."""
        graph = self.model.graph
        nodes = [new for node in graph.node for new in self.replaced.pop(node.name, [node])]
        del graph.node[:]
        graph.node.extend(nodes)
        read = {name for node in nodes for name in node.input}
        kept = [one for one in graph.initializer if one.name in read]
        del graph.initializer[:]
        graph.initializer.extend(kept)


@contextlib.contextmanager
def preprocessed(source: Path) -> Iterator[Path]:
    """Yield a file with the model as ONNX Runtime's quantisation wants it: with its shapes inferred."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    root = logging.getLogger()
    level = root.level
    # It recommends, on the root logger, the very preparation that is done here.
    root.setLevel(logging.ERROR)
    try:
        with scratch_file(source, "prepared") as prepared:
            quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
            yield prepared
    finally:
        root.setLevel(level)


@contextlib.contextmanager
def scratch_file(source: Path, name: str) -> Iterator[Path]:
    """Yield a path beside a model, whose file is removed afterwards."""
    path = source.with_suffix(f".{name}.onnx")
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)
