"""Pruning a model: units go, what stays learns from a teacher again, and then unused tokens go."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from modelmill.compression.options import PRUNING_METHODS, PruningOptions
from modelmill.compression.pruning import PruningMethod
from modelmill.compression.pruning.vocabulary import is_prunable, kept_ids, prune_vocabulary, write_tokenizer
from modelmill.models.bundle import bundle_bytes
from modelmill.models.classifier import Classifier, all_logits, load_classifier, parameter_count
from modelmill.models.scorers import load_scorer
from modelmill.tasks.examples import LabelledData
from modelmill.tokens.texts import Texts
from modelmill.tokens.token_ids import Tokens
from modelmill.training.distillation import log_agreement, train_student
from modelmill.training.distillation_data import DistillationData, distillation_data
from modelmill.training.lexical_head import add_lexical_head
from modelmill.training.rows import EncodedRows, quality
from modelmill.training.state import TrainingHistory
from modelmill.training.student import make_student
from modelmill.training.teacher import Teacher, check_teacher
from modelmill.training.trained_model import describe, save_bundle, validation_metrics
from modelmill.workspace import Workspace


@dataclass(frozen=True)
class PrunedModel:
    """A model that has been pruned."""

    folder: Path
    """Its bundle, of format ``torch``."""
    metrics: dict[str, float]
    """``size_ratio``; with validation rows also ``unrecovered_…`` (before it learned again), ``validation_…``
    and ``teacher_agreement``."""
    history: TrainingHistory | None
    """None if it did not learn again."""


def prune(
    source: Path,
    data: LabelledData,
    texts: Texts,
    *,
    teacher: Teacher,
    options: PruningOptions,
    workspace: Workspace,
) -> PrunedModel:
    """Prune a model.

    :param source: a bundle of format ``torch``.
    :param data: labelled rows of the texts. The train rows show which units matter; the model learns from
        them again.
    :param texts: all texts.
    :param teacher: what it learns from: a model of the same label and classes, perhaps the unpruned model
        itself, perhaps with another tokenizer.
    :param options: what is taken out, and how the model learns again.
    :param workspace: gets checkpoints, the bundle, metrics and the log; its cache keeps the teacher's logits.
    :return: the smaller model.
    :raises InputError: if the model or the teacher does not fit the rows, or the model cannot be pruned.
    """
    info = check_teacher(source, data)
    large = load_classifier(source)
    check_teacher(teacher.folder, data)
    encoder_tokens = info.encoder_tokens or info.max_tokens
    learned = distillation_data(
        data,
        texts,
        teacher,
        workspace,
        tokenizer_folder=source,
        max_tokens=info.max_tokens,
        encoder_tokens=encoder_tokens,
    )
    validation = learned.validation
    small = _without_units(large, learned, options)
    workspace.log(f"of {parameter_count(large):,} weights {parameter_count(small):,} stay")
    workspace.log(describe(small, data))
    metrics: dict[str, float] = {}
    if validation is not None:
        name, value = next(iter(quality(small, validation.cut(encoder_tokens)).items()))
        metrics[f"unrecovered_{name}"] = value
        workspace.log(f"before it recovers: validation {name} {value:.4f}")
    history = None
    if options.epochs:
        history = train_student(small, learned, options, workspace, lexical=large.lexical)
    elif large.lexical is not None:
        add_lexical_head(small, large.lexical, validation, encoder_tokens=encoder_tokens, workspace=workspace)
    small, tokenizer = _without_tokens(small, source, learned.rows.tokens, options, workspace)
    folder = save_bundle(
        small, data, workspace, text=texts.column, tokenizer=tokenizer, max_tokens=info.max_tokens
    )
    metrics["size_ratio"] = bundle_bytes(source) / bundle_bytes(folder)
    if validation is not None:
        # As its own tokenizer makes them: a word that it no longer knows falls into pieces.
        read = texts.tokens(folder, max_tokens=info.max_tokens)
        rows = EncodedRows.of(read, data.validation, target=data.target)
        metrics |= validation_metrics(rows, all_logits(small, rows.tokens))
        wanted = teacher.logits(texts, data.validation.places, workspace)
        metrics["teacher_agreement"] = log_agreement(load_scorer(folder), rows.tokens, wanted, workspace)
    return PrunedModel(folder, metrics, history)


def _without_units(model: Classifier, learned: DistillationData, options: PruningOptions) -> Classifier:
    """Return the model after every move, without its lexical head: it gets that when it has learned again."""
    small = make_student(model, layers=model.config.num_hidden_layers, dropout=options.dropout)
    rows = learned.rows.cut(learned.encoder_tokens)
    for move in options.moves:
        method: PruningMethod = PRUNING_METHODS.load(move.method)
        small = method(small, keep=move.keep, rows=rows, importance=options.importance)
    return small


def _without_tokens(
    model: Classifier, source: Path, tokens: Tokens, options: PruningOptions, workspace: Workspace
) -> tuple[Classifier, Path]:
    """Return the model with the tokens that stay, and its ``tokenizer.json``."""
    tokenizer = source / "tokenizer.json"
    if options.vocabulary == "all":
        return model, tokenizer
    if not is_prunable(tokenizer):
        workspace.log("the tokenizer is of a kind from which no tokens can be taken: all stay")
        return model, tokenizer
    kept = kept_ids(tokenizer, tokens)
    smaller = workspace.workdir / "tokenizer.json"
    write_tokenizer(tokenizer, kept, smaller)
    workspace.log(f"of {model.config.vocab_size:,} tokens {len(kept):,} stay")
    return prune_vocabulary(model, kept), smaller
