"""From a recipe to the bundle that serves: vocabulary, export, quantisation; or a static model's tables."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from modelmill.compression.options import GRAPH_METHODS
from modelmill.compression.pruning.vocabulary import kept_ids, prune_vocabulary, write_tokenizer
from modelmill.compression.quantization import CALIBRATION_ROWS, GraphMethod
from modelmill.compression.search.problem import Task
from modelmill.compression.search.recipes import Recipe
from modelmill.compression.static import fit_static, soft_targets
from modelmill.models.classifier import Classifier
from modelmill.models.onnx_export import check_parity, export_onnx
from modelmill.models.static import write_static
from modelmill.tokens.token_ids import Tokens
from modelmill.tokens.tokenizer import load_tokenizer

_PARITY_ROWS = 8


def make_transformer(recipe: Recipe, model: Classifier, task: Task, target: Path) -> Path:
    """Export a trained model as a recipe says.

    :param recipe: of family ``teacher`` or ``transformer``.
    :param model: the teacher, or the trained student.
    :param task: the compression.
    :param target: the bundle's folder; replaced if it exists.
    :return: the folder.
    :raises ModelError: if the model cannot be exported.
    """
    _fresh(target)
    tokens = task.train.tokens
    if recipe.vocabulary == "seen":
        kept = kept_ids(task.folder / "tokenizer.json", tokens)
        model = prune_vocabulary(model, kept)
        write_tokenizer(task.folder / "tokenizer.json", kept, target / "tokenizer.json")
        tokens = renumbered(tokens.take(slice(CALIBRATION_ROWS)), kept)
    else:
        shutil.copyfile(task.folder / "tokenizer.json", target / "tokenizer.json")
    plain = target.with_suffix(".plain.onnx")
    export_onnx(model, plain)
    check_parity(model, plain, tokens.take(slice(_PARITY_ROWS)))
    quantize_graph: GraphMethod = GRAPH_METHODS.load(recipe.quantization)
    quantize_graph(plain, target / "model.onnx", tokens.take(slice(CALIBRATION_ROWS)))
    plain.unlink()
    encoder_tokens = recipe.structure.tokens if recipe.structure else task.info.max_tokens
    task.info.model_copy(
        update={
            "format": "onnx",
            "max_tokens": task.info.max_tokens if model.lexical is not None else encoder_tokens,
            "encoder_tokens": encoder_tokens if model.lexical is not None else None,
            "parameters": sum(value.numel() for value in model.state_dict().values()),
            # Fitted to the teacher's logits: a student's have another scale.
            "calibration": task.info.calibration if recipe.family == "teacher" else None,
        }
    ).save(target)
    return target


def make_static(recipe: Recipe, task: Task, target: Path) -> Path:
    """Fit a static student, and write its bundle.

    :param recipe: of family ``static``.
    :param task: the compression.
    :param target: the bundle's folder; replaced if it exists.
    :return: the folder.
    """
    _fresh(target)
    source, tokens = task.folder / "tokenizer.json", task.train.tokens
    vocabulary = load_tokenizer(task.folder, max_tokens=task.info.max_tokens).get_vocab_size()
    if recipe.vocabulary == "seen":
        kept = kept_ids(source, tokens)
        write_tokenizer(source, kept, target / "tokenizer.json")
        tokens, vocabulary = renumbered(tokens, kept), len(kept)
    else:
        shutil.copyfile(source, target / "tokenizer.json")
    targets = soft_targets(
        task.soft,
        task.train.targets,
        temperature=task.config.temperature,
        soft_weight=task.config.soft_weight,
    )
    model = fit_static(tokens, targets, vocabulary=vocabulary, pairs=recipe.pairs)
    write_static(
        target,
        model.tables,
        model.bias,
        label=task.info.label,
        classes=task.info.classes,
        text=task.info.text,
        max_tokens=task.info.max_tokens,
        dtype=np.float16 if recipe.half else np.float32,
    )
    return target


def renumbered(tokens: Tokens, kept: np.ndarray) -> Tokens:
    """Return rows with the ids of a pruned vocabulary.

    :param tokens: rows of kept tokens only.
    :param kept: old ids, rising.
    :return: the same rows, packed.
    """
    return Tokens.packed(np.searchsorted(kept, tokens.flat()).astype(np.uint32), tokens.lengths)


def _fresh(target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
