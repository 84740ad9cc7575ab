"""A graph in ONNX Runtime, one row at a time, one thread a row.

There is no padding to compute, and what the graph makes of a text cannot depend on the texts that come with
it. (A graph that quantises its activations as they come takes one scale for a whole batch, so in a batch an
answer would change with its neighbours.)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from modelmill.errors import ModelError
from modelmill.tasks.calibration import FloatArray
from modelmill.tokens.token_ids import Tokens

_WITHOUT = ("SkipLayerNormFusion",)
"""Optimisations that are left out: ONNX Runtime's fused layer norm takes ten times as long as the plain one
on a CPU, a third of all the time of an int8 encoder."""


Feed = Callable[[Tokens, int], dict[str, npt.NDArray[Any]]]
"""From rows and the place of one of them, a graph's inputs, each ``(1, …)``."""


class RowSession:
    """A loaded graph with the inputs ``input_ids`` and ``attention_mask``, or ``pixels``.

    :param path: the graph and its weights, one file.
    :param threads: rows that run at the same time.
    :raises ModelError: if ONNX Runtime does not load it.
    """

    def __init__(self, path: Path, *, threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(
                str(path),
                options,
                providers=["CPUExecutionProvider"],
                disabled_optimizers=list(_WITHOUT),
            )
        except Exception as error:  # ONNX Runtime's own errors share no base class
            raise ModelError(
                f"model.onnx must be a graph that ONNX Runtime loads ({type(error).__name__})",
                got=str(path),
                remedy="export the model again",
            ) from error
        self._feed = feed_of(self._session, path)
        # Threads start with the first texts: a session may be made before a process forks.
        self._pool: ThreadPoolExecutor | None = None
        self._threads = threads

    def run(
        self, tokens: Tokens, outputs: Sequence[str], use: Callable[[int, Sequence[FloatArray]], None]
    ) -> None:
        """Run the graph over rows.

        :param tokens: any number of rows.
        :param outputs: names of the outputs that are wanted; nothing is computed for others.
        :param use: called for each row with its place and its outputs, each without the batch dimension;
            in any order, from several threads.
        """

        def one(row: int) -> None:
            found = self._session.run(outputs, self._feed(tokens, row))
            use(row, [value[0] for value in found])

        if self._threads == 1 or len(tokens) < 2:
            for row in range(len(tokens)):
                one(row)
            return
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="modelmill-scorer")
        # The longest first, so that no thread is left with a long one at the end.
        list(self._pool.map(one, np.argsort(-tokens.lengths, kind="stable")))


def feed_of(session: Any, path: Path) -> Feed:
    """Return what feeds a graph.

    :param session: ONNX Runtime's, of the graph.
    :param path: what an error names.
    :return: the function, by the names of the graph's inputs.
    :raises ModelError: if it has other inputs than graphs of texts or of images.
    """
    inputs: Mapping[str, Sequence[int | str]] = {one.name: one.shape for one in session.get_inputs()}
    if set(inputs) == {"input_ids", "attention_mask"}:
        return _ids
    if set(inputs) == {"pixels"} and all(isinstance(size, int) for size in inputs["pixels"][1:]):
        shape = (1, *map(int, inputs["pixels"][1:]))
        return lambda tokens, row: {"pixels": tokens.raw(row).reshape(shape)}
    raise ModelError(
        "model.onnx must have the inputs input_ids and attention_mask, or pixels",
        got=f"{', '.join(sorted(inputs))} in {path}",
        remedy="export the model again",
    )


def _ids(tokens: Tokens, row: int) -> dict[str, npt.NDArray[Any]]:
    ids = tokens[row][None, :]  # (1, tokens)
    return {"input_ids": ids, "attention_mask": np.ones_like(ids)}
