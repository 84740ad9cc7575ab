"""Tokenizers for the tests of token ids: real, and tiny."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

MakeTokenizer = Callable[..., Path]


@pytest.fixture
def make_tokenizer(tmp_path: Path) -> MakeTokenizer:
    """Return a function that writes a WordPiece ``tokenizer.json`` as BERT's, and returns its folder.

    With ``wrong`` the word "match" stands in ``added_tokens`` too, with another id than in the vocabulary:
    tokenizers takes that of the vocabulary and nanotoken 0.1.0 the other, so they really differ. ``more`` is
    the number of tokens that stand before it in both lists.
    """
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    def make(name: str = "tokenizer", *, special: bool = True, wrong: bool = False, more: int = 0) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        added = [f"<{number}>" for number in range(more)]
        words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *added, "goal", "match", "bank", "##s", "##ing"]
        letters = "abcdefghijklmnopqrstuvwxyz.,-'"
        words += [*letters, *(f"##{letter}" for letter in letters)]
        vocabulary = {word: number for number, word in enumerate(words)}
        tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
        tokenizer.normalizer = normalizers.BertNormalizer()
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        if special:
            ends = [("[CLS]", 2), ("[SEP]", 3)]
            tokenizer.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", special_tokens=ends)
            tokenizer.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]"])
        tokenizer.enable_padding(length=8)
        tokenizer.enable_truncation(6)
        content = json.loads(tokenizer.to_str())
        flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), False)
        ids = {word: vocabulary[word] for word in added} | ({"match": len(words)} if wrong else {})
        content["added_tokens"] += [{"id": number, "content": word, **flags} for word, number in ids.items()]
        (folder / "tokenizer.json").write_text(json.dumps(content))
        return folder

    return make
