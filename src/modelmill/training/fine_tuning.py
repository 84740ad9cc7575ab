"""Fine-tuning: a pretrained encoder learns the labels of some texts."""

from __future__ import annotations

import torch

from modelmill.models.base_model import load_base_model
from modelmill.models.classifier import Classifier, all_logits
from modelmill.models.lexical import fit_lexical_head
from modelmill.tasks.calibration import Calibration
from modelmill.tasks.examples import LabelledData
from modelmill.tokens.texts import Texts
from modelmill.training.calibration import fit_calibration
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
    """Fine-tune a pretrained encoder.

    The metrics of the validation rows choose the epoch that is kept; without validation rows it is the last.

    :param data: labelled rows of the texts.
    :param texts: all texts.
    :param options: how to train, and the base model.
    :param workspace: gets checkpoints, the bundle, metrics and the log.
    :return: the model, a bundle of format ``torch``.
    :raises InputError: if the base model or the options cannot be used.
    """
    base = load_base_model(options.base_model, max_tokens=options.max_tokens, dropout=options.dropout)
    torch.manual_seed(options.seed)
    model = Classifier(base.encoder, classes=data.outputs, dropout=options.dropout)
    lexical_tokens = options.lexical_tokens if data.task.exclusive else 0
    max_tokens = max(options.max_tokens, lexical_tokens)
    tokens = texts.tokens(base.tokenizer.parent, max_tokens=max_tokens)
    rows = EncodedRows.of(tokens, data.train, target=data.target)
    validation = EncodedRows.of(tokens, data.validation, target=data.target) if len(data.validation) else None
    workspace.log(describe(model, data))
    with tuned(model, options) as settings:
        history = train(
            model,
            in_units(rows.cut(options.max_tokens), data),
            validation=in_units(validation.cut(options.max_tokens), data) if validation else None,
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
