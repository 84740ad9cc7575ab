"""The step ``prune``: units go, what stays learns from a teacher again, and then unused tokens go."""

from __future__ import annotations

from pathlib import Path

from modelmill.artifacts import DatasetRef, ModelRef
from modelmill.component import StepContext
from modelmill.compression.options import PRUNING_METHODS
from modelmill.compression.pruning import PruningMethod
from modelmill.compression.pruning.vocabulary import is_prunable, kept_ids, prune_vocabulary, write_tokenizer
from modelmill.models.bundle import bundle_bytes
from modelmill.models.classifier import Classifier, all_logits, load_classifier, parameter_count
from modelmill.models.scorers import load_scorer
from modelmill.steps.prune import PruneConfig
from modelmill.tasks.examples import read_labelled
from modelmill.tokens.cache import DatasetTexts
from modelmill.tokens.token_ids import Tokens
from modelmill.training.distillation import log_agreement, train_student
from modelmill.training.distillation_data import DistillationData, distillation_data
from modelmill.training.learning_curve import FIGURE_PATH, learning_curve
from modelmill.training.lexical_head import add_lexical_head
from modelmill.training.rows import EncodedRows, quality
from modelmill.training.student import make_student
from modelmill.training.teacher import Teacher, check_teacher
from modelmill.training.trained_model import describe, save_bundle, validation_metrics


def run(
    config: PruneConfig, dataset: DatasetRef, model: ModelRef, teacher: ModelRef | None, context: StepContext
) -> ModelRef:
    """Prune a model.

    :param config: what is taken out, and how the model recovers.
    :param dataset: its train rows say what matters, and are what the model learns again.
    :param model: a ``torch`` model.
    :param teacher: what it learns from, of the same label and classes; it may have another tokenizer. None:
        the model as it was.
    :param context: the step.
    :return: the logged model, role ``pruned``.
    :raises InputError: if the model or the teacher does not fit the dataset, or cannot be pruned.
    """
    from modelmill.registry.bundles import fetch_bundle, log_model

    data = read_labelled(dataset, label=config.label)
    source = fetch_bundle(model, context.cache)
    info = check_teacher(source, data)
    large = load_classifier(source)
    reference = teacher or model
    master = Teacher.load(fetch_bundle(reference, context.cache), name=reference.uri)
    check_teacher(master.folder, data)
    context.run.log_dataset(dataset, context="training", rows=len(data.train) + len(data.validation))
    encoder_tokens = info.encoder_tokens or info.max_tokens
    texts = DatasetTexts(dataset, context)
    learned = distillation_data(
        data,
        texts,
        master,
        context,
        tokenizer_folder=source,
        max_tokens=info.max_tokens,
        encoder_tokens=encoder_tokens,
    )
    validation = learned.validation
    small = _without_units(large, learned, config)
    context.log(f"of {parameter_count(large):,} weights {parameter_count(small):,} stay")
    context.log(describe(small, data))
    metrics: dict[str, float] = {}
    if validation is not None:
        cut = validation.cut(encoder_tokens)
        name, value = next(iter(quality(small, cut).items()))
        metrics[f"unrecovered_{name}"] = value
        context.log(f"before it recovers: validation {name} {value:.4f}")
    if config.epochs:
        history = train_student(small, learned, config, context, lexical=large.lexical)
        context.run.log_figure(learning_curve(history, title=context.step), FIGURE_PATH)
    elif large.lexical is not None:
        add_lexical_head(small, large.lexical, validation, encoder_tokens=encoder_tokens, workspace=context)
    small, tokenizer = _without_tokens(small, source, learned.rows.tokens, config, context)
    bundle = save_bundle(
        small, data, context, text=texts.column, tokenizer=tokenizer, max_tokens=info.max_tokens
    )
    metrics["size_ratio"] = bundle_bytes(source) / bundle_bytes(bundle)
    if validation is not None:
        # As its own tokenizer makes them: a word that it no longer knows falls into pieces.
        read = texts.tokens(bundle, max_tokens=info.max_tokens)
        rows = EncodedRows.of(read, data.validation, target=data.target)
        metrics |= validation_metrics(rows, all_logits(small, rows.tokens))
        wanted = master.logits(texts, data.validation.places, context)
        metrics["teacher_agreement"] = log_agreement(load_scorer(bundle), rows.tokens, wanted, context)
    context.run.log_metrics(metrics)
    context.log(f"{bundle_bytes(bundle) / 1e6:.1f} MB, {metrics['size_ratio']:.2f} times smaller")
    return log_model(bundle, role="pruned", dataset=dataset, context=context, parent=model, metrics=metrics)


def _without_units(model: Classifier, learned: DistillationData, config: PruneConfig) -> Classifier:
    """Return the model after every move, without its lexical head: that is added when it has recovered."""
    layers = model.config.num_hidden_layers
    small = make_student(model, layers=layers, dropout=config.dropout)
    rows = learned.rows.cut(learned.encoder_tokens)
    for move in config.moves:
        method: PruningMethod = PRUNING_METHODS.load(move.method)
        small = method(small, keep=move.keep, rows=rows, importance=config.importance)
    return small


def _without_tokens(
    model: Classifier, source: Path, tokens: Tokens, config: PruneConfig, context: StepContext
) -> tuple[Classifier, Path]:
    """Return the model with the tokens that stay, and its ``tokenizer.json``."""
    tokenizer = source / "tokenizer.json"
    if config.vocabulary == "all" or not is_prunable(tokenizer):
        if config.vocabulary != "all":
            context.log("the tokenizer is of a kind from which no tokens can be taken: all stay")
        return model, tokenizer
    kept = kept_ids(tokenizer, tokens)
    smaller = context.workdir / "tokenizer.json"
    write_tokenizer(tokenizer, kept, smaller)
    context.log(f"of {model.config.vocab_size:,} tokens {len(kept):,} stay")
    return prune_vocabulary(model, kept), smaller
