"""Fine-tuning: a pretrained encoder learns the labels of some texts or images."""

from __future__ import annotations

import torch

from modelmill.models.base_model import BaseModel, load_base_model
from modelmill.models.base_model_folder import content_of_base
from modelmill.models.classifier import Classifier, all_logits
from modelmill.models.image_base import load_image_base
from modelmill.models.lexical import fit_lexical_head
from modelmill.tasks.calibration import Calibration
from modelmill.tasks.examples import LabelledData
from modelmill.tokens.contents import content_of
from modelmill.tokens.images import ImageInput
from modelmill.tokens.texts import Texts
from modelmill.training.calibration import fit_calibration
from modelmill.training.image_start import image_start
from modelmill.training.lexical_head import add_lexical_head
from modelmill.training.losses import fit_scale, in_units, supervised_loss
from modelmill.training.options import FineTuningOptions
from modelmill.training.rows import EncodedRows
from modelmill.training.trained_model import TrainedModel, describe, save_bundle, validation_metrics
from modelmill.training.trainer import train
from modelmill.training.tuning_modes import tuned
from modelmill.workspace import Workspace


def fine_tune(
    data: LabelledData, texts: Texts, options: FineTuningOptions, workspace: Workspace
) -> TrainedModel:
    """Fine-tune a pretrained encoder, of texts or of images.

    The metrics of the validation rows choose the epoch that is kept; without validation rows it is the last.

    :param data: labelled rows of the texts.
    :param texts: all texts.
    :param options: how to train, and the base model.
    :param workspace: gets checkpoints, the bundle, metrics and the log.
    :return: the model, a bundle of format ``torch``.
    :raises InputError: if the base model or the options cannot be used.
    """
    base = _base(options, workspace)
    torch.manual_seed(options.seed)
    model = Classifier(base.encoder, classes=data.outputs, dropout=options.dropout)
    images = content_of(base.tokenizer.parent).kind == "image"
    lexical_tokens = options.lexical_tokens if data.task.exclusive and not images else 0
    encoder_tokens = ImageInput.load(base.tokenizer.parent).numbers if images else options.max_tokens
    max_tokens = max(encoder_tokens, lexical_tokens)
    tokens = texts.tokens(base.tokenizer.parent, max_tokens=max_tokens)
    rows = EncodedRows.of(tokens, data.train, target=data.target)
    validation = EncodedRows.of(tokens, data.validation, target=data.target) if len(data.validation) else None
    workspace.log(describe(model, data))
    with tuned(model, options) as settings:
        history = train(
            model,
            in_units(rows.cut(encoder_tokens), data),
            validation=in_units(validation.cut(encoder_tokens), data) if validation else None,
            loss=supervised_loss(data, options.class_weights),
            options=settings,
            workspace=workspace,
        )
    fit_scale(model, data)
    if lexical_tokens:
        head = fit_lexical_head(
            rows.tokens, rows.targets, vocabulary=model.config.vocab_size, classes=len(data.classes)
        )
        add_lexical_head(model, head, validation, encoder_tokens=options.max_tokens, workspace=workspace)
    calibration: Calibration | None = None
    metrics: dict[str, float] = {}
    if validation is not None:
        logits = all_logits(model, validation.tokens)
        metrics = validation_metrics(validation, logits)
        calibration = fit_calibration(options.calibration, logits, validation.targets, task=data.task)
    folder = save_bundle(
        model,
        data,
        workspace,
        text=texts.column,
        tokenizer=base.tokenizer,
        max_tokens=max_tokens,
        calibration=calibration,
    )
    return TrainedModel(folder, metrics, history)


def _base(options: FineTuningOptions, workspace: Workspace) -> BaseModel:
    """Load the base model, whatever it reads."""
    if content_of_base(options.base_model) == "text":
        return load_base_model(options.base_model, max_tokens=options.max_tokens, dropout=options.dropout)
    encoder = load_image_base(options.base_model, early_layers=options.early_layers, size=options.image_size)
    return image_start(encoder, workspace)
