"""Pruning a vocabulary: most of a small encoder's size is embeddings of tokens that no row has.

These tokens stay: those that occur, special tokens, and single characters (with and without the prefix of a
piece within a word), so that a new word falls into smaller pieces and does not become the unknown token.
WordPiece takes the longest piece first (Y. Wu et al. 2016, arXiv 1609.08144), so the rows that the tokens
were counted on keep their tokens exactly, and the model gives them the same answers.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from modelmill.errors import ModelError
from modelmill.models.classifier import Classifier
from modelmill.models.lexical import LexicalHead
from modelmill.tokens.token_ids import Tokens

Ids = npt.NDArray[np.int64]

_KINDS = ("WordPiece", "WordLevel")
_SPECIAL_IDS = ("pad_token_id", "bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id")


def kept_ids(tokenizer: Path, tokens: Tokens) -> Ids:
    """Choose the tokens that stay.

    :param tokenizer: ``tokenizer.json``.
    :param tokens: train rows.
    :return: old ids, rising; a token's new id is its place here.
    :raises ModelError: if single tokens cannot be removed from this kind of tokenizer.
    """
    content = _read(tokenizer)
    vocabulary: dict[str, int] = content["model"]["vocab"]
    prefix = content["model"].get("continuing_subword_prefix") or ""
    counts = np.bincount(tokens.flat(), minlength=max(vocabulary.values(), default=0) + 1)
    kept = set(np.flatnonzero(counts).tolist()) & set(vocabulary.values())
    kept |= {number for token, number in vocabulary.items() if len(token.removeprefix(prefix)) <= 1}
    kept |= {int(added["id"]) for added in content.get("added_tokens") or ()}
    kept |= {vocabulary[name] for name in _named(content) if name in vocabulary}
    # Texts without a token are read as the token 0, which is also the padding.
    return np.array(sorted(kept | {0}), dtype=np.int64)


def _named(content: dict[str, Any]) -> set[str]:
    """Return the tokens that the file names outside the vocabulary: the unknown token, and the template's."""
    return {str(content["model"].get("unk_token")), *_strings(content.get("post_processor"))}


def _strings(value: Any) -> set[str]:
    if isinstance(value, dict):
        return set().union(*({key} | _strings(inner) for key, inner in value.items())) if value else set()
    if isinstance(value, list):
        return set().union(*map(_strings, value)) if value else set()
    return {value} if isinstance(value, str) else set()


def write_tokenizer(source: Path, kept: Ids, target: Path) -> None:
    """Write a ``tokenizer.json`` that has only some of the tokens, with new ids.

    :param source: the file with all tokens.
    :param kept: old ids, rising.
    :param target: file to write.
    :raises ModelError: if single tokens cannot be removed from this kind of tokenizer.
    """
    content = _read(source)
    numbers = {int(old): new for new, old in enumerate(kept)}
    vocabulary: dict[str, int] = content["model"]["vocab"]
    content["model"]["vocab"] = {
        token: numbers[old]
        for token, old in sorted(vocabulary.items(), key=lambda item: item[1])
        if old in numbers
    }
    for added in content.get("added_tokens") or ():
        added["id"] = numbers[int(added["id"])]
    _renumber(content.get("post_processor"), numbers)
    content["padding"] = None  # it names an id too, and the runtime pads by itself
    target.write_text(json.dumps(content, ensure_ascii=False))


def _renumber(processor: Any, numbers: dict[int, int]) -> None:
    if not isinstance(processor, dict):
        return
    for inner in processor.get("processors") or ():
        _renumber(inner, numbers)
    specials = processor.get("special_tokens")
    for special in specials.values() if isinstance(specials, dict) else ():
        special["ids"] = [numbers[int(old)] for old in special["ids"]]
    for name in ("sep", "cls"):
        if isinstance(processor.get(name), list):
            processor[name] = [processor[name][0], numbers[int(processor[name][1])]]


def renumbered(tokens: Tokens, kept: Ids) -> Tokens:
    """Return rows with the ids of a pruned vocabulary.

    :param tokens: rows of kept tokens only.
    :param kept: old ids, rising.
    :return: the same rows, packed.
    """
    return Tokens.packed(np.searchsorted(kept, tokens.flat()).astype(np.uint32), tokens.lengths)


def _read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    kind = content.get("model", {}).get("type")
    if kind not in _KINDS:
        raise ModelError(
            f"tokens can be taken out of a tokenizer of kind {' or '.join(_KINDS)} only",
            got=kind,
            remedy="keep the whole vocabulary",
        )
    return content


def is_prunable(tokenizer: Path) -> bool:
    """Return whether single tokens can be removed: not where tokens are built from each other, as in BPE."""
    try:
        _read(tokenizer)
    except ModelError:
        return False
    return True


def prune_vocabulary(model: Classifier, kept: Ids) -> Classifier:
    """Return a classifier with embeddings for some tokens only; its answers to rows of these stay the same.

    :param model: the classifier; it is not changed.
    :param kept: old ids, rising.
    :return: the smaller classifier, in evaluation mode.
    """
    small = copy.deepcopy(model)
    rows = torch.from_numpy(kept)
    encoder: Any = small.encoder
    embedding = encoder.get_input_embeddings()
    known = rows[rows < embedding.num_embeddings]
    padding = embedding.padding_idx
    smaller = nn.Embedding(len(known), embedding.embedding_dim)
    with torch.no_grad():
        smaller.weight.copy_(embedding.weight[known])
    smaller.padding_idx = int(np.searchsorted(kept, padding)) if padding is not None else None
    encoder.set_input_embeddings(smaller)
    config: Any = small.config
    config.vocab_size = len(known)
    for name in _SPECIAL_IDS:
        old = getattr(config, name, None)
        if isinstance(old, int):
            found = np.flatnonzero(kept == old)
            setattr(config, name, int(found[0]) if len(found) else None)
    if small.lexical is not None:
        small.lexical = _fewer_words(small.lexical, known)
    return small.eval()


def _fewer_words(head: LexicalHead, rows: torch.Tensor) -> LexicalHead:
    smaller = LexicalHead(len(rows), len(head.bias))
    smaller.load_state_dict({"idf": head.idf[rows], "weight": head.weight[rows], "bias": head.bias})
    return smaller
