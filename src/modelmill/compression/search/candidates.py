"""Candidates: a recipe is made into the bundle that serves.

A transformer gets its vocabulary, is exported and quantised; a static student is fitted.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from modelmill.compression.options import GRAPH_METHODS
from modelmill.compression.pruning.vocabulary import kept_ids, prune_vocabulary, renumbered, write_tokenizer
from modelmill.compression.quantization import CALIBRATION_ROWS, GraphMethod
from modelmill.compression.search.recipes import Recipe
from modelmill.compression.search.search import Search
from modelmill.compression.static import fit_static, soft_targets
from modelmill.models.bundle import BundleInfo, bundle_bytes
from modelmill.models.classifier import Classifier
from modelmill.models.onnx_export import check_parity, export_onnx
from modelmill.models.scorers import load_scorer
from modelmill.models.static import write_static
from modelmill.tokens.tokenizer import load_tokenizer

_PARITY_ROWS = 8


@dataclass(frozen=True)
class Candidate:
    """A recipe as a bundle, and how it does on the rows that candidates are ranked on."""

    recipe: Recipe
    folder: Path
    info: BundleInfo
    size_mb: float
    ranking_drop: float
    """Accuracy of the teacher minus its own."""

    @classmethod
    def of(cls, recipe: Recipe, folder: Path, search: Search) -> Candidate:
        """Measure a bundle on the rows that candidates are ranked on."""
        rows = search.ranking
        right = rows.right(load_scorer(folder).logits(rows.texts))
        return cls(
            recipe=recipe,
            folder=folder,
            info=BundleInfo.load(folder),
            size_mb=bundle_bytes(folder) / 1e6,
            ranking_drop=float(rows.teacher_right.mean() - right.mean()),
        )


def transformer_candidate(recipe: Recipe, model: Classifier, search: Search) -> Candidate:
    """Export a trained model.

    :param recipe: of family ``teacher`` or ``transformer``.
    :param model: the teacher, or the trained student.
    :param search: the search.
    :return: the candidate.
    :raises ModelError: if the model cannot be exported.
    """
    folder, teacher = _empty_folder(recipe, search), search.teacher
    tokens, tokenizer = search.train.tokens, teacher.folder / "tokenizer.json"
    if recipe.vocabulary == "seen":
        kept = kept_ids(tokenizer, tokens)
        model = prune_vocabulary(model, kept)
        write_tokenizer(tokenizer, kept, folder / "tokenizer.json")
        tokens = renumbered(tokens.take(slice(CALIBRATION_ROWS)), kept)
    else:
        shutil.copyfile(tokenizer, folder / "tokenizer.json")
    plain = folder.with_suffix(".plain.onnx")
    export_onnx(model, plain)
    check_parity(model, plain, tokens.take(slice(_PARITY_ROWS)))
    quantize_graph: GraphMethod = GRAPH_METHODS.load(recipe.quantization)
    quantize_graph(plain, folder / "model.onnx", tokens.take(slice(CALIBRATION_ROWS)))
    plain.unlink()
    info, lexical = teacher.info, model.lexical is not None
    encoder_tokens = recipe.structure.tokens if recipe.structure else info.max_tokens
    info.model_copy(
        update={
            "format": "onnx",
            "max_tokens": info.max_tokens if lexical else encoder_tokens,
            "encoder_tokens": encoder_tokens if lexical else None,
            "parameters": sum(value.numel() for value in model.state_dict().values()),
            # Fitted to the teacher's logits: a student's have another scale.
            "calibration": info.calibration if recipe.family == "teacher" else None,
        }
    ).save(folder)
    return Candidate.of(recipe, folder, search)


def static_candidate(recipe: Recipe, search: Search) -> Candidate:
    """Fit a static student."""
    folder, teacher, options = _empty_folder(recipe, search), search.teacher, search.options
    tokens, tokenizer = search.train.tokens, teacher.folder / "tokenizer.json"
    vocabulary = load_tokenizer(teacher.folder, max_tokens=teacher.info.max_tokens).get_vocab_size()
    if recipe.vocabulary == "seen":
        kept = kept_ids(tokenizer, tokens)
        write_tokenizer(tokenizer, kept, folder / "tokenizer.json")
        tokens, vocabulary = renumbered(tokens, kept), len(kept)
    else:
        shutil.copyfile(tokenizer, folder / "tokenizer.json")
    targets = soft_targets(
        search.soft,
        search.train.targets,
        temperature=options.temperature,
        soft_weight=options.soft_weight,
    )
    model = fit_static(tokens, targets, vocabulary=vocabulary, pairs=recipe.pairs)
    write_static(
        folder,
        model.tables,
        model.bias,
        label=teacher.info.label,
        classes=teacher.info.classes,
        text=teacher.info.text,
        max_tokens=teacher.info.max_tokens,
        dtype=np.float16 if recipe.half else np.float32,
    )
    return Candidate.of(recipe, folder, search)


def _empty_folder(recipe: Recipe, search: Search) -> Path:
    name = "".join(char if char.isalnum() else "_" for char in str(recipe))
    folder = search.workspace.workdir / "candidates" / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
