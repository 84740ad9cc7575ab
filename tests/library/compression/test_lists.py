"""Pruning, quantisation and the search on lists, as in a notebook."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import modelmill

FAST = {"batch_size": 8, "learning_rate": 3e-3}
TEXTS = ["the goal match today", "a bank loan today"]


def silent(_line: str) -> None:
    pass


def test_a_model_is_pruned_quantised_and_compressed(
    tiny_base_model: Path, topic_rows: Callable[..., list[tuple[str, str]]]
) -> None:
    texts, labels = map(list, zip(*topic_rows(80), strict=True))
    held = texts[60:], labels[60:]
    base = str(tiny_base_model)
    teacher = modelmill.fine_tune(
        texts[:60], labels[:60], base_model=base, validation=held, max_tokens=16, epochs=6, log=silent, **FAST
    )
    pruned = modelmill.prune(teacher, texts[:60], labels[:60], validation=held, log=silent, **FAST)
    assert pruned.info.parameters < teacher.info.parameters
    assert pruned.metrics["size_ratio"] > 1
    served = modelmill.quantize(pruned, texts[60:], method="int8_weights", max_drift=0.5, log=silent)
    assert (served.info.format, served.info.classes) == ("onnx", ("sport", "trade"))
    assert served.metrics["drift"] <= 0.5
    small = modelmill.compress(
        teacher,
        texts[:60],
        labels[:60],
        validation=held,
        budget={"max_metric_drop": 0.5},
        space={"families": ["static"], "vocabularies": ["seen"]},
        prefer="size",
        log=silent,
    )
    assert small.info.format == "static"
    assert small.metrics["size_ratio"] > 1
    assert small.predict(TEXTS) == ["sport", "trade"]
