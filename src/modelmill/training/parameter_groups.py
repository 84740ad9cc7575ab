"""Which weights a training changes, and at which learning rate and weight decay."""

from __future__ import annotations

from torch import nn

from modelmill.errors import ModelError
from modelmill.models.encoder import depth, layers_of
from modelmill.models.image_encoder import RowEncoder
from modelmill.models.trainable import TrainableModel
from modelmill.training.optimizer import Optimizer
from modelmill.training.options import TrainingOptions


def make_optimizer(model: TrainableModel, options: TrainingOptions) -> Optimizer:
    """Freeze the weights that the options leave as they are, and group the others.

    :param model: the model.
    :param options: how to train.
    :return: the optimizer: weights with decay, biases and norms without, the head at its own learning rate,
        embeddings row by row.
    :raises ModelError: if more layers are to be frozen than there are.
    """
    most = depth(model.encoder)
    if options.frozen_layers > most:
        raise ModelError(
            f"frozen_layers must not exceed the model's layers, {most}",
            got=options.frozen_layers,
            remedy=f"lower it to at most {most}",
        )
    for module in frozen_modules(model, options):
        module.requires_grad_(False)
    table = _sparse_table(model, options)
    trained = [
        value
        for value in model.encoder.parameters()
        if value.requires_grad and not (table and value is table.weight)
    ]
    shared = {id(value) for value in model.encoder.parameters()}
    own = [value for value in model.head.parameters() if id(value) not in shared]
    groups = [
        {"params": [value for value in trained if value.ndim > 1], "weight_decay": options.weight_decay},
        {"params": [value for value in trained if value.ndim <= 1], "weight_decay": 0.0},
        {"params": own, "weight_decay": 0.0, "lr": options.head_learning_rate},
    ]
    return Optimizer(
        [{"lr": options.learning_rate, **group} for group in groups if group["params"]],
        table=table,
        rate=options.learning_rate,
        weight_decay=options.weight_decay,
    )


def _sparse_table(model: TrainableModel, options: TrainingOptions) -> nn.Embedding | None:
    """Return the embeddings, if they are trained and it pays to do so row by row."""
    table = model.encoder.get_input_embeddings()
    if not isinstance(table, nn.Embedding) or not table.weight.requires_grad or model.shares_embeddings:
        return None
    # A GPU fills and adds a whole table in no time, and compiled models have no sparse gradients.
    return table if table.weight.device.type == "cpu" and options.compiled != "always" else None


def frozen_modules(model: TrainableModel, options: TrainingOptions) -> list[nn.Module]:
    """Return the parts of a model that the options leave as they are.

    :param model: the model.
    :param options: how to train.
    :return: the embeddings and the lowest layers, or none; of an image encoder the lowest stages
        and what stands before them, or none.
    """
    layers, count = layers_of(model.encoder), options.frozen_layers
    if len(layers) < depth(model.encoder):  # they share their weights (ALBERT): all are frozen, or none is
        count = len(layers) if count == depth(model.encoder) else 0
    found = list(layers[:count])
    if isinstance(model.encoder, RowEncoder):
        # With no layer to freeze, the convolutions before them learn, too: nothing is embedded here.
        found += model.encoder.stem if count else ()
    elif not options.train_embeddings:
        found.append(getattr(model.encoder, "embeddings", None) or model.encoder.get_input_embeddings())
    return found
