"""Pruned vocabularies: the same answers to known rows, smaller pieces for new words."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig

from modelmill.compression.pruning.vocabulary import (
    is_prunable,
    kept_ids,
    prune_vocabulary,
    renumbered,
    write_tokenizer,
)
from modelmill.errors import ModelError
from modelmill.models.classifier import Classifier, all_logits
from modelmill.models.encoder import build_encoder
from modelmill.models.lexical import fit_lexical_head
from modelmill.tokens.tokenizer import encode, load_tokenizer

WORDS = ["[PAD]", "[unused]", "[UNK]", "[CLS]", "[SEP]", "market", "markets", "##s", "m", "##a", "##r", "##k"]
WORDS += ["##e", "##t", "goal", "##ing", "team", "s", "never"]


@pytest.fixture
def word_pieces(tmp_path: Path) -> Path:
    tokenizer = Tokenizer(models.WordPiece({word: n for n, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]"])
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = [("[CLS]", 3), ("[SEP]", 4)]
    tokenizer.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", special_tokens=special)
    tokenizer.enable_padding(pad_id=0, length=9)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    return tmp_path


def pruned(folder: Path, texts: list[str]) -> tuple[np.ndarray, Path]:
    tokens = encode(load_tokenizer(folder, max_tokens=16), texts)
    kept = kept_ids(folder / "tokenizer.json", tokens)
    small = folder / "small"
    small.mkdir()
    write_tokenizer(folder / "tokenizer.json", kept, small / "tokenizer.json")
    return kept, small


def test_known_rows_keep_their_answers_and_new_words_fall_apart(word_pieces: Path) -> None:
    texts = ["market goal", "goal ing market market", ""]
    kept, small = pruned(word_pieces, texts)
    gone = {WORDS[n] for n in set(range(len(WORDS))) - set(kept.tolist())}
    assert gone == {"[unused]", "markets", "##ing", "team", "never"}
    tokenizer = load_tokenizer(small, max_tokens=16)
    assert tokenizer.get_vocab_size() == len(kept)
    assert tokenizer.encode("markets").tokens == ["[CLS]", "market", "##s", "[SEP]"]
    assert tokenizer.encode("never").tokens == ["[CLS]", "[UNK]", "[SEP]"]
    assert json.loads((small / "tokenizer.json").read_text())["padding"] is None
    before = encode(load_tokenizer(word_pieces, max_tokens=16), texts)
    after = encode(tokenizer, texts)
    assert [row.tolist() for row in after] == [row.tolist() for row in renumbered(before, kept)]

    config = BertConfig(
        vocab_size=24,  # more embeddings than tokens, as padded to a round number
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
    )
    torch.manual_seed(0)
    model = Classifier(build_encoder(config), classes=2).eval()
    lexical = fit_lexical_head(before, np.array([0, 1, 1]), vocabulary=24, classes=2)
    model.attach(lexical, (1.0, 2.0), encoder_tokens=4)
    narrow = prune_vocabulary(model, kept)
    assert np.allclose(all_logits(narrow, after), all_logits(model, before), atol=1e-6)
    assert narrow.config.vocab_size == len(kept)
    assert narrow.config.pad_token_id == 0
    # The model that it was made of is as it was.
    assert model.config.vocab_size == 24
    assert model.encoder.get_input_embeddings().num_embeddings == 24


def test_tokens_that_are_built_of_each_other_stay(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    Tokenizer(models.BPE({"a": 0, "b": 1, "ab": 2}, [("a", "b")])).save(str(path))
    assert not is_prunable(path)
    with pytest.raises(ModelError) as caught:
        kept_ids(path, encode(load_tokenizer(tmp_path, max_tokens=8), ["ab"]))
    assert str(caught.value) == (
        "tokens can be taken out of a tokenizer of kind WordPiece or WordLevel only; got 'BPE'; "
        "keep the whole vocabulary"
    )
