"""A student model that starts from the layers of its teacher."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from modelmill.errors import ModelError
from modelmill.models.attention import KEPT_HEADS
from modelmill.models.base_model import set_dropout
from modelmill.models.classifier import Classifier
from modelmill.models.encoder import build_encoder, layer_list


def make_student(teacher: Classifier, *, layers: int, dropout: float) -> Classifier:
    """Return a student with evenly spaced layers of its teacher, as in Sanh et al., "DistilBERT" (2019, arXiv
    1910.01108).

    :param teacher: the teacher; it is not changed.
    :param layers: number of layers; from two on, the first and the last of the teacher are among them.
    :param dropout: dropout in training.
    :return: the student, with the teacher's embeddings and head.
    :raises ModelError: if the teacher has fewer layers.
    """
    name, stack = layer_list(teacher.encoder)
    config: Any = copy.deepcopy(teacher.config)
    depth = config.num_hidden_layers
    if layers > depth:
        raise ModelError(
            f"a student cannot have more layers than its teacher, {depth}",
            got=layers,
            remedy=f"set layers to at most {depth}",
        )
    # Where layers share their weights (ALBERT), a student runs them fewer times.
    sources = spread(layers, depth) if len(stack) == depth else list(range(len(stack)))
    config.num_hidden_layers = layers
    set_dropout(config, dropout)
    for field in ("layer_types", KEPT_HEADS):
        if isinstance(getattr(config, field, None), list):
            setattr(config, field, [getattr(config, field)[place] for place in sources])
    student = Classifier(build_encoder(config), classes=teacher.head.out_features, dropout=dropout)
    weights = teacher.state_dict()
    prefix = f"encoder.{name}."
    # The lexical head is added when the student is trained.
    kept = ("encoder.", "head.")
    taken = {
        key: value for key, value in weights.items() if key.startswith(kept) and not key.startswith(prefix)
    }
    for target, source in enumerate(sources):
        start = f"{prefix}{source}."
        for key, value in weights.items():
            if key.startswith(start):
                taken[f"{prefix}{target}.{key.removeprefix(start)}"] = value
    student.load_state_dict(taken)
    return student


def spread(count: int, total: int) -> list[int]:
    """Return evenly spaced positions.

    :param count: how many.
    :param total: of how many.
    :return: rising positions from 0; the last one is ``total - 1`` if there are two or more.
    """
    return [int(value) for value in np.linspace(0, total - 1, count)]
