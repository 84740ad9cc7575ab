"""The process in which a graph from elsewhere answers for the first time: memory and time are limited."""

from __future__ import annotations

import json
import resource
import sys

_SECONDS = 100
"""Of processor time."""
_MOST_NUMBERS = 100_000
"""Of the answer for an image: more than any classifier has classes."""


def main(path: str, memory: int) -> None:
    """Run a graph on a black, a white and a noisy image, and print its answers as JSON.

    :param path: a graph with the input ``pixels`` and the output ``logits``.
    :param memory: bytes of address space.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CPU, (_SECONDS, _SECONDS))
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    shape = (1, *given.shape[1:])
    noise = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    images = (np.zeros(shape, np.uint8), np.full(shape, 255, np.uint8), noise)
    answers = [session.run(["logits"], {"pixels": image})[0] for image in images]
    # Who asked reads them without limits.
    if any(answer.size > _MOST_NUMBERS for answer in answers):
        raise ValueError(f"an answer has at most {_MOST_NUMBERS:,} numbers; got {answers[0].size:,}")
    print(json.dumps([answer.ravel().astype(float).tolist() for answer in answers]))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
