"""Which weights a fine-tuning changes: chosen by the type of ``options.mode``."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from modelmill.errors import ConfigError
from modelmill.models.classifier import Classifier
from modelmill.models.encoder import depth
from modelmill.training.options import FineTuningOptions, FullTuning, LastLayers, LoraTuning


@contextlib.contextmanager
def tuned(model: Classifier, options: FineTuningOptions) -> Iterator[FineTuningOptions]:
    """Prepare a model for its training, and leave it as a plain model again.

    :param model: the model; changed in place.
    :param options: how it is trained.
    :yield: the options that the training loop follows.
    :raises ConfigError: if the mode does not fit the model.
    """
    with _MODES[type(options.mode)](model, options, options.mode) as settings:
        yield settings


@contextlib.contextmanager
def _full(_model: Classifier, options: FineTuningOptions, _mode: FullTuning) -> Iterator[FineTuningOptions]:
    yield options


@contextlib.contextmanager
def _last_layers(
    model: Classifier, options: FineTuningOptions, mode: LastLayers
) -> Iterator[FineTuningOptions]:
    total = depth(model.encoder)
    if mode.layers > total:
        raise ConfigError(
            f"mode.layers must not exceed the model's layers, {total}",
            got=mode.layers,
            remedy=f"lower it to at most {total}",
        )
    yield options.model_copy(update={"frozen_layers": total - mode.layers, "train_embeddings": False})


@contextlib.contextmanager
def _lora(model: Classifier, options: FineTuningOptions, mode: LoraTuning) -> Iterator[FineTuningOptions]:
    from peft import LoraConfig, inject_adapter_in_model
    from peft.tuners.lora import LoraLayer

    settings = LoraConfig(
        r=mode.rank, lora_alpha=mode.alpha, target_modules=list(mode.modules) or None, lora_dropout=0.0
    )
    try:
        inject_adapter_in_model(settings, model.encoder)
    except ValueError as error:
        names = sorted(
            {
                name.rsplit(".", 1)[-1]
                for name, part in model.encoder.named_modules()
                if hasattr(part, "weight")
            }
        )
        raise ConfigError(
            f"LoRA needs the names of layers to add to ({str(error).splitlines()[0]})",
            got=", ".join(mode.modules) or "none",
            remedy=f"set mode.modules to some of {', '.join(names)}",
        ) from error
    yield options.model_copy(update={"train_embeddings": False})
    for name, module in list(model.encoder.named_modules()):
        if isinstance(module, LoraLayer):
            module.merge()
            parent, _, own = name.rpartition(".")
            setattr(model.encoder.get_submodule(parent), own, module.get_base_layer())


_MODES: Mapping[type[Any], Callable[..., contextlib.AbstractContextManager[FineTuningOptions]]] = {
    FullTuning: _full,
    LastLayers: _last_layers,
    LoraTuning: _lora,
}
