"""Candidates: a recipe is made into the bundle that serves.

A transformer gets its vocabulary, is exported and quantised; a static student is fitted. What an earlier
search with the same teacher and rows has made is taken from its store, with its answers.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from modelmill.compression.pruning.vocabulary import kept_ids, prune_vocabulary, renumbered, write_tokenizer
from modelmill.compression.quantization import CALIBRATION_ROWS
from modelmill.compression.quantization.quantize import write_onnx
from modelmill.compression.search.recipes import Recipe
from modelmill.compression.search.search import Search
from modelmill.compression.static import fit_static, soft_targets
from modelmill.models.bundle import BundleInfo, bundle_bytes
from modelmill.models.classifier import Classifier
from modelmill.models.scorers import load_scorer
from modelmill.models.static import write_static
from modelmill.tasks.calibration import FloatArray
from modelmill.tokens.tokenizer import load_tokenizer


@dataclass(frozen=True)
class Candidate:
    """A recipe as a bundle, and what it answers."""

    recipe: Recipe
    folder: Path
    info: BundleInfo
    size_mb: float
    ranking_drop: float
    """The teacher's metric minus its own, on the rows that candidates are ranked on."""
    logits: FloatArray
    """For the rows that finalists are judged on, ``(rows, outputs)``."""


def transformer_candidate(recipe: Recipe, model: Callable[[], Classifier], search: Search) -> Candidate:
    """Export the teacher or a trained student, which is asked for only if it is not exported yet."""
    return _candidate(recipe, lambda folder: write_transformer(folder, recipe, model(), search), search)


def static_candidate(recipe: Recipe, search: Search) -> Candidate:
    """Fit a static student."""
    return _candidate(recipe, lambda folder: _write_static(folder, recipe, search), search)


def _candidate(recipe: Recipe, write: Callable[[Path], None], search: Search) -> Candidate:
    name, texts = str(recipe), search.ranking.texts + search.judging.texts
    folder = search.store.bundle(name) or search.store.put(
        name, write, lambda draft: {"logits": load_scorer(draft).logits(texts).tolist()}
    )
    facts, info = search.store.facts(name) or {}, BundleInfo.load(folder)
    logits = np.array(facts["logits"], dtype=np.float32)  # (rows, outputs)
    ranking, judging = np.split(logits, [len(search.ranking)])
    answers = search.ranking.answers(ranking, info.calibration)
    return Candidate(
        recipe=recipe,
        folder=folder,
        info=info,
        size_mb=bundle_bytes(folder) / 1e6,
        ranking_drop=search.ranking.below_teacher(answers),
        logits=judging,
    )


def write_transformer(folder: Path, recipe: Recipe, model: Classifier, search: Search) -> None:
    """Finish a teacher or a student by its recipe, and write it into a folder that does not exist yet."""
    teacher, info = search.teacher, search.teacher.info
    tokens, tokenizer = search.train.tokens, teacher.folder / "tokenizer.json"
    if recipe.vocabulary == "seen":
        kept = kept_ids(tokenizer, tokens)
        model = prune_vocabulary(model, kept)
        smaller = folder.with_suffix(".tokenizer.json")
        write_tokenizer(tokenizer, kept, smaller)
        tokenizer, tokens = smaller, renumbered(tokens.take(slice(CALIBRATION_ROWS)), kept)
    lexical = model.lexical is not None
    encoder_tokens = recipe.structure.tokens if recipe.structure else info.max_tokens
    said = info.model_copy(
        update={
            "max_tokens": info.max_tokens if lexical else encoder_tokens,
            "encoder_tokens": encoder_tokens if lexical else None,
            "parameters": sum(value.numel() for value in model.state_dict().values()),
            # Fitted to the teacher's logits: a student's have another scale.
            "calibration": info.calibration if recipe.family == "teacher" else None,
        }
    )
    write_onnx(model, said, folder, tokenizer=tokenizer, tokens=tokens, method=recipe.quantization)


def _write_static(folder: Path, recipe: Recipe, search: Search) -> None:
    teacher, options, task = search.teacher, search.options, search.teacher.info.task
    tokens, tokenizer = search.train.tokens, teacher.folder / "tokenizer.json"
    vocabulary = load_tokenizer(teacher.folder, max_tokens=teacher.info.max_tokens).get_vocab_size()
    folder.mkdir()
    if recipe.vocabulary == "seen":
        kept = kept_ids(tokenizer, tokens)
        write_tokenizer(tokenizer, kept, folder / "tokenizer.json")
        tokens, vocabulary = renumbered(tokens, kept), len(kept)
    else:
        shutil.copyfile(tokenizer, folder / "tokenizer.json")
    targets = soft_targets(
        search.soft,
        search.train.targets,
        task=task,
        temperature=options.temperature,
        soft_weight=options.soft_weight,
    )
    model = fit_static(tokens, targets, vocabulary=vocabulary, pairs=recipe.pairs, kind=task.kind)
    write_static(
        folder,
        model.tables,
        model.bias,
        label=teacher.info.label,
        classes=teacher.info.classes,
        target=task.kind,
        text=teacher.info.text,
        max_tokens=teacher.info.max_tokens,
        dtype=np.float16 if recipe.half else np.float32,
    )
