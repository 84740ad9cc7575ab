"""Fine-tuning: a pretrained encoder learns the labels of a dataset."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from modelmill.artifacts import DatasetRef, ModelRef
from modelmill.component import StepContext
from modelmill.datasets.options import LabelKind
from modelmill.models.base_model import load_base_model
from modelmill.models.bundle import BundleInfo
from modelmill.models.classifier import Classifier, all_logits, parameter_count, save_classifier
from modelmill.models.lexical import UNFITTED_SCALES, LexicalHead, fit_lexical_head, fit_scales
from modelmill.steps.fine_tune import FineTuneConfig
from modelmill.tasks.calibration import Calibration
from modelmill.tasks.examples import LabelledData, Rows, read_labelled
from modelmill.tasks.kinds import task_of
from modelmill.tokens.cache import tokenised
from modelmill.tokens.token_ids import Tokens
from modelmill.training.calibration import fit_calibration
from modelmill.training.loop import Encoded, Trained, train
from modelmill.training.losses import fit_scale, in_units, supervised_loss
from modelmill.training.tuning_modes import tuned


def run(config: FineTuneConfig, dataset: DatasetRef, context: StepContext) -> ModelRef:
    """Fine-tune a pretrained encoder.

    :param config: how.
    :param dataset: what to learn; its validation split chooses the epoch that is kept.
    :param context: the step.
    :return: the logged model, role ``teacher``.
    :raises InputError: if the base model, the label or the rows cannot be used.
    """
    from modelmill.registry.bundles import log_model

    base = load_base_model(config.base_model, max_tokens=config.max_tokens, dropout=config.dropout)
    data = read_labelled(dataset, label=config.label)
    context.run.log_dataset(dataset, context="training", rows=len(data.train) + len(data.validation))
    torch.manual_seed(config.seed)
    model = Classifier(base.encoder, classes=data.outputs, dropout=config.dropout)
    lexical_tokens = config.lexical_tokens if data.target == "class" else 0
    max_tokens = max(config.max_tokens, lexical_tokens)
    tokens = tokenised(
        dataset, base.tokenizer.parent, max_length=max_tokens, cache=context.cache, log=context.log
    )
    rows = encoded(tokens, data.train, target=data.target)
    validation = encoded(tokens, data.validation, target=data.target) if len(data.validation) else None
    context.log(describe(model, data))
    with tuned(model, config) as settings:
        trained = train(
            model,
            in_units(rows.cut(config.max_tokens), data),
            validation=in_units(validation.cut(config.max_tokens), data) if validation else None,
            loss=supervised_loss(data, config.class_weights),
            config=settings,
            context=context,
        )
    if data.target == "number":
        fit_scale(model, data)
    if lexical_tokens:
        head = fit_lexical_head(
            rows.tokens, rows.targets, vocabulary=model.config.vocab_size, classes=len(data.classes)
        )
        add_lexical_head(model, head, validation, encoder_tokens=config.max_tokens, context=context)
    calibration: Calibration | None = None
    metrics: dict[str, float] = {}
    if validation is not None:
        logits = all_logits(model, validation.tokens)
        metrics = validation_metrics(validation, logits)
        calibration = fit_calibration(
            config.calibration, logits, validation.targets, target=validation.target
        )
    folder = save(
        model,
        data,
        dataset,
        context,
        tokenizer=base.tokenizer,
        max_tokens=max_tokens,
        calibration=calibration,
    )
    log_course(trained, context)
    return log_model(folder, role="teacher", dataset=dataset, context=context, metrics=metrics)


def add_lexical_head(
    model: Classifier,
    head: LexicalHead,
    validation: Encoded | None,
    *,
    encoder_tokens: int,
    context: StepContext,
) -> None:
    """Attach a fitted lexical head, and fit the two weights of the sum on the validation rows.

    :param model: a trained model without one, in evaluation mode.
    :param head: the head.
    :param validation: validation rows, as long as the head reads them; None if there are none.
    :param encoder_tokens: tokens that the encoder reads.
    :param context: the step.
    """
    scales = UNFITTED_SCALES
    if validation:
        read = validation.cut(encoder_tokens).tokens
        encoder = all_logits(model, read)  # (rows, classes)
        lexical = all_logits(head, validation.tokens)  # (rows, classes)
        scales = fit_scales(encoder, lexical, validation.targets)
        alone = float((encoder.argmax(axis=1) == validation.targets).mean())
        words = float((lexical.argmax(axis=1) == validation.targets).mean())
        both = float(((scales[0] * encoder + scales[1] * lexical).argmax(1) == validation.targets).mean())
        context.log(f"validation accuracy: encoder {alone:.2%}, words {words:.2%}, both {both:.2%}")
    model.attach(head, scales, encoder_tokens=encoder_tokens)
    context.run.log_metrics({"encoder_scale": scales[0], "lexical_scale": scales[1]})


def encoded(tokens: Tokens, rows: Rows, *, target: LabelKind = "class") -> Encoded:
    """Return labelled rows with their ids.

    :param tokens: ids of all rows of the dataset.
    :param rows: the rows.
    :param target: kind of their label.
    :return: the same rows, ready for the model.
    """
    return Encoded(tokens.take(rows.places), rows.targets, target)


_KINDS: Mapping[LabelKind, str] = {
    "class": "{} classes",
    "classes": "sets of {} classes",
    "number": "a number",
}


def describe(model: Classifier, data: LabelledData) -> str:
    """Return a line that says what learns what.

    :param model: the model.
    :param data: the rows.
    :return: for the log.
    """
    return (
        f"{data.label}: {_KINDS[data.target].format(len(data.classes))}; {len(data.train):,} train and "
        f"{len(data.validation):,} validation rows; {model.config.model_type} with "
        f"{model.config.num_hidden_layers} layers, "
        f"{parameter_count(model):,} parameters, on the {'GPU' if torch.cuda.is_available() else 'CPU'}"
    )


def save(
    model: Classifier,
    data: LabelledData,
    dataset: DatasetRef,
    context: StepContext,
    *,
    tokenizer: Path,
    max_tokens: int,
    calibration: Calibration | None = None,
) -> Path:
    """Write the bundle of a trained model into the step's work directory.

    :param model: the model, on the CPU.
    :param data: what it learned.
    :param dataset: where that came from.
    :param context: the step.
    :param tokenizer: ``tokenizer.json`` to copy.
    :param max_tokens: tokens of a text that it reads.
    :param calibration: what makes probabilities of its logits.
    :return: the bundle.
    """
    info = BundleInfo(
        format="torch",
        label=data.label,
        classes=data.classes,
        target=data.target,
        calibration=calibration,
        text=dataset.text_column,
        max_tokens=max_tokens,
        encoder_tokens=model.encoder_tokens,
        lexical=model.lexical is not None,
        parameters=parameter_count(model),
    )
    folder = context.workdir / "bundle"
    save_classifier(model, folder, tokenizer=tokenizer, info=info)
    return folder


def validation_metrics(rows: Encoded, logits: npt.NDArray[np.float32]) -> dict[str, float]:
    """Return the metrics of the model that is kept.

    :param rows: validation rows.
    :param logits: what the model says of them, ``(rows, outputs)``.
    :return: values by name.
    """
    found = task_of(rows.target).quality(logits, rows.targets)
    return {f"validation_{name}": value for name, value in found.items()}


def log_course(trained: Trained, context: StepContext) -> None:
    """Log the learning curve.

    :param trained: a finished training.
    :param context: the step.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(*zip(*trained.curve, strict=True), color="tab:blue", label="training loss")
    axes.set(xlabel="optimizer step", ylabel="training loss", title=f"{context.step}: learning curve")
    axes.set_ylim(bottom=0)
    handles = axes.get_lines()
    if trained.epochs:
        right = axes.twinx()
        name = f"validation {next(iter(trained.epochs[0][1]))}"
        steps = [step for step, _ in trained.epochs]
        values = [next(iter(found.values())) for _, found in trained.epochs]
        right.plot(steps, values, "o--", color="tab:orange", label=name)
        right.set_ylabel(name)
        handles = [*handles, *right.get_lines()]
    axes.legend(handles=handles, loc="center right")
    context.run.log_figure(figure, "plots/learning_curve.png")
