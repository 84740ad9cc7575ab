"""Fine-tuning: a pretrained encoder learns the labels of a dataset."""

from __future__ import annotations

from pathlib import Path

import torch
from torch.nn import functional

from modelmill.artifacts import DatasetRef, ModelRef
from modelmill.data.token_cache import tokenised
from modelmill.data.tokens import Places, Tokens
from modelmill.pipeline.component import StepContext
from modelmill.serving.bundle import BundleInfo
from modelmill.training.base_model import load_base_model
from modelmill.training.classifier import Classifier, all_logits, parameter_count, save_classifier
from modelmill.training.components import FineTuneConfig
from modelmill.training.examples import LabelledData, Rows, read_labelled
from modelmill.training.lexical import UNFITTED_SCALES, LexicalHead, fit_lexical_head, fit_scales
from modelmill.training.loop import Encoded, Trained, quality, train


def run(config: FineTuneConfig, dataset: DatasetRef, context: StepContext) -> ModelRef:
    """Fine-tune a pretrained encoder.

    :param config: how.
    :param dataset: what to learn; its validation split chooses the epoch that is kept.
    :param context: the step.
    :return: the logged model, role ``teacher``.
    :raises InputError: if the base model, the label or the rows cannot be used.
    """
    from modelmill.registry.models import log_model

    base = load_base_model(config.base_model, max_tokens=config.max_tokens, dropout=config.dropout)
    data = read_labelled(dataset, label=config.label)
    context.run.log_dataset(dataset, context="training", rows=len(data.train) + len(data.validation))
    torch.manual_seed(config.seed)
    model = Classifier(base.encoder, classes=len(data.classes), dropout=config.dropout)
    max_tokens = max(config.max_tokens, config.lexical_tokens)
    tokens = tokenised(
        dataset, base.tokenizer.parent, max_length=max_tokens, cache=context.cache, log=context.log
    )
    rows = encoded(tokens, data.train)
    validation = encoded(tokens, data.validation) if len(data.validation) else None
    context.log(describe(model, data))
    trained = train(
        model,
        rows.cut(config.max_tokens),
        validation=validation.cut(config.max_tokens) if validation else None,
        loss=_cross_entropy,
        config=config,
        context=context,
    )
    if config.lexical_tokens:
        head = fit_lexical_head(
            rows.tokens, rows.targets, vocabulary=model.config.vocab_size, classes=len(data.classes)
        )
        add_lexical_head(model, head, validation, encoder_tokens=config.max_tokens, context=context)
    folder = save(model, data, dataset, context, tokenizer=base.tokenizer, max_tokens=max_tokens)
    log_course(trained, context)
    metrics = kept_metrics(model, validation)
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


def _cross_entropy(logits: torch.Tensor, targets: torch.Tensor, _rows: Places) -> torch.Tensor:
    return functional.cross_entropy(logits, targets)


def encoded(tokens: Tokens, rows: Rows) -> Encoded:
    """Return labelled rows with their ids.

    :param tokens: ids of all rows of the dataset.
    :param rows: the rows.
    :return: the same rows, ready for the model.
    """
    return Encoded(tokens.take(rows.places), rows.targets)


def describe(model: Classifier, data: LabelledData) -> str:
    """Return a line that says what learns what.

    :param model: the model.
    :param data: the rows.
    :return: for the log.
    """
    return (
        f"{data.label}: {len(data.classes)} classes, {len(data.train):,} train and {len(data.validation):,} "
        f"validation rows; {model.config.model_type} with {model.config.num_hidden_layers} layers, "
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
) -> Path:
    """Write the bundle of a trained model into the step's work directory.

    :param model: the model, on the CPU.
    :param data: what it learned.
    :param dataset: where that came from.
    :param context: the step.
    :param tokenizer: ``tokenizer.json`` to copy.
    :param max_tokens: tokens of a text that it reads.
    :return: the bundle.
    """
    info = BundleInfo(
        format="torch",
        label=data.label,
        classes=data.classes,
        text=dataset.text_column,
        max_tokens=max_tokens,
        encoder_tokens=model.encoder_tokens,
        lexical=model.lexical is not None,
        parameters=parameter_count(model),
    )
    folder = context.workdir / "bundle"
    save_classifier(model, folder, tokenizer=tokenizer, info=info)
    return folder


def kept_metrics(model: Classifier, validation: Encoded | None) -> dict[str, float]:
    """Return the metrics of the model that is kept; empty without validation rows.

    :param model: the model, in evaluation mode.
    :param validation: validation rows.
    :return: values by name.
    """
    if validation is None:
        return {}
    found = quality(model, validation)
    return {"validation_accuracy": found.accuracy, "validation_macro_f1": found.macro_f1}


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
        steps, accuracies, _ = zip(*trained.epochs, strict=True)
        right.plot(steps, accuracies, "o--", color="tab:orange", label="validation accuracy")
        right.set_ylabel("validation accuracy")
        handles = [*handles, *right.get_lines()]
    axes.legend(handles=handles, loc="center right")
    context.run.log_figure(figure, "plots/learning_curve.png")
