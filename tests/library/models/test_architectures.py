"""Every architecture of the list works from fine-tuning to the exported file: small, with random weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

import modelmill
from modelmill.compression.options import GRAPH_METHODS
from modelmill.models.architectures import ARCHITECTURES
from modelmill.models.attention import has_heads
from modelmill.models.base_model import load_base_model
from modelmill.models.bundle import BundleInfo
from modelmill.models.classifier import Classifier, collate, load_classifier, mean_over_tokens
from modelmill.models.encoder import layer_list, width
from modelmill.models.language_model import load_language_model, read_text_keys, save_encoder
from modelmill.models.onnx_export import PARITY
from modelmill.models.onnx_session import RowSession
from modelmill.tokens.texts import TextList

TEXTS = [
    "the match was won by the home team",
    "grain exports rose as wheat shipments resumed",
    "今天的比赛主队赢了",
    "小麦出口今天增加了",
    "ทีมเจ้าบ้านชนะการแข่งขัน",
    "صادرات القمح ارتفعت",
] * 2
LABELS = ["sport", "trade"] * 6
LONG = "the home team won " * 20
MAX_TOKENS = 48
SIZE = {
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 64,
}
FAST = {"epochs": 1, "batch_size": 4}


def _template(tokenizer: Tokenizer, first: str, last: str) -> Tokenizer:
    special = [(name, tokenizer.token_to_id(name)) for name in (first, last)]
    tokenizer.post_processor = processors.TemplateProcessing(f"{first} $A {last}", special_tokens=special)
    return tokenizer


def word_piece(names: tuple[str, ...] = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")) -> Tokenizer:
    unknown = next(name for name in names if "unk" in name.lower())
    tokenizer = Tokenizer(models.WordPiece(unk_token=unknown))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=200, special_tokens=list(names), show_progress=False)
    tokenizer.train_from_iterator(TEXTS, trainer)
    return _template(tokenizer, *(("[CLS]", "[SEP]") if "[CLS]" in names else ("<s>", "</s>")))


SENTENCE_TOKENS = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")


def mpnet_word_piece() -> Tokenizer:
    return word_piece(SENTENCE_TOKENS)


def sentence_piece() -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=200, special_tokens=list(SENTENCE_TOKENS), unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    return _template(tokenizer, "<s>", "</s>")


def byte_level() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=list(SENTENCE_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    return tokenizer


PADDED = {**SIZE, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
SPECIAL = {**PADDED, "cls_token_id": 0, "sep_token_id": 2}
DISTIL = {"dim": 16, "n_layers": 3, "n_heads": 2, "hidden_dim": 24, "max_position_embeddings": 64}
DEBERTA = {
    **SIZE,
    "pad_token_id": 1,
    "relative_attention": True,
    "position_buckets": 8,
    "norm_rel_ebd": "layer_norm",
    "share_att_key": True,
    "pos_att_type": ["p2c", "c2p"],
    "position_biased_input": False,
    "type_vocab_size": 0,
    "conv_kernel_size": 3,  # as in v2-xlarge
    "conv_act": "gelu",
}
CASES: dict[str, tuple[str, Callable[[], Tokenizer], dict[str, Any]]] = {
    "albert": ("AlbertConfig", sentence_piece, {**SIZE, "embedding_size": 8}),
    "bert": ("BertConfig", word_piece, SIZE),
    "camembert": ("CamembertConfig", sentence_piece, PADDED),
    "deberta-v2": ("DebertaV2Config", sentence_piece, DEBERTA),
    "distilbert": ("DistilBertConfig", word_piece, DISTIL),
    "electra": ("ElectraConfig", word_piece, {**SIZE, "embedding_size": 8}),
    "ernie": ("ErnieConfig", word_piece, SIZE),
    "eurobert": ("EuroBertConfig", byte_level, {**PADDED, "num_key_value_heads": 2}),
    "modernbert": (
        "ModernBertConfig",
        byte_level,
        {**SPECIAL, "local_attention": 8, "global_attn_every_n_layers": 2},
    ),
    "mpnet": ("MPNetConfig", mpnet_word_piece, PADDED),
    "roberta": ("RobertaConfig", byte_level, PADDED),
    "xlm-roberta": ("XLMRobertaConfig", sentence_piece, PADDED),
}


def make_base_model(kind: str, folder: Path) -> Path:
    """Write a base model whose weights are so large that a wrong mask or position shows in its answers."""
    name, make_tokenizer, options = CASES[kind]
    tokenizer = make_tokenizer()
    tokenizer.save(str(folder / "tokenizer.json"))
    torch.manual_seed(0)
    config = getattr(transformers, name)(vocab_size=tokenizer.get_vocab_size(), **options)
    encoder = transformers.AutoModel.from_config(config)
    for weight in encoder.parameters():
        if weight.ndim > 1:
            torch.nn.init.normal_(weight, std=0.3)
    encoder.save_pretrained(folder)
    return folder


def test_every_architecture_of_the_list_is_tested() -> None:
    assert tuple(CASES) == ARCHITECTURES


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_an_architecture_goes_from_fine_tuning_to_the_exported_file(kind: str, tmp_path: Path) -> None:
    base = make_base_model(kind, tmp_path)
    silent: Any = lambda _line: None  # noqa: E731 (a callback)
    held = (TEXTS[:4], LABELS[:4])
    options = {"base_model": str(base), "max_tokens": MAX_TOKENS, "lexical_tokens": 0, "log": silent}
    teacher = modelmill.fine_tune(TEXTS, LABELS, validation=held, **options, **FAST)
    student = modelmill.distill(teacher, TEXTS, LABELS, validation=held, layers=2, log=silent, **FAST)
    encoder = load_classifier(student.folder).encoder
    methods = ["inner_units", *(["heads"] if has_heads(encoder, layer_list(encoder)[1]) else [])]
    moves = [{"method": method, "keep": 0.5} for method in methods]
    small = modelmill.prune(
        student, TEXTS, LABELS, teacher=teacher, validation=held, moves=moves, log=silent, **FAST
    )
    model = load_classifier(small.folder)
    assert model.config.num_hidden_layers == 2
    exported = modelmill.quantize(small, [LONG, *TEXTS], method="none", log=silent)

    rows = [*TEXTS, LONG, "", "\U0001f600 zzz"]
    assert exported.predict_proba(rows) == pytest.approx(small.predict_proba(rows), abs=PARITY)
    tokens = TextList(rows).tokens(exported.folder, max_tokens=MAX_TOKENS)
    _check_padding(model, exported.folder / "model.onnx", rows=tokens)
    GRAPH_METHODS.load("int8_dynamic")(exported.folder / "model.onnx", tmp_path / "int8.onnx", tokens)
    found = np.zeros((len(rows), 2), dtype=np.float32)
    RowSession(tmp_path / "int8.onnx", threads=1).run(
        tokens, ["logits"], lambda row, values: found.__setitem__(row, values[0])
    )
    assert np.isfinite(found).all()
    with torch.inference_mode():
        wanted = model(*collate(tokens, np.arange(len(rows)))).numpy()
    assert np.abs(found - wanted).max() < 0.1 * max(1, np.abs(wanted).max())


def _check_padding(model: Classifier, path: Path, *, rows: Any) -> None:
    """Check that PyTorch and the graph give a row the same answer alone and padded."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    ids, mask = collate(rows, np.arange(len(rows)))
    (padded,) = session.run(["logits"], {"input_ids": ids.numpy(), "attention_mask": mask.numpy()})
    with torch.inference_mode():
        alone = [model(*collate(rows, np.array([row])))[0].numpy() for row in range(len(rows))]
        assert model(ids, mask).numpy() == pytest.approx(np.stack(alone), abs=1e-4)
    assert padded == pytest.approx(np.stack(alone), abs=PARITY)


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_an_architecture_finds_hidden_words_and_stays_a_base_model(kind: str, tmp_path: Path) -> None:
    base = make_base_model(kind, tmp_path)
    options: dict[str, Any] = {"max_tokens": MAX_TOKENS, "dropout": 0.0}
    torch.manual_seed(0)
    model, tokenizer, new = load_language_model(str(base), share=0.5, **options)
    assert new
    ids, mask = collate(TextList(TEXTS).tokens(base, max_tokens=MAX_TOKENS), np.arange(len(TEXTS)))
    train = torch.optim.SGD(model.parameters(), lr=0.1)
    whole = model.train()(ids, mask)
    assert whole.shape == (len(TEXTS), 2 + width(model.encoder))
    (whole[:, 0].sum() / whole[:, 1].sum()).backward()
    train.step()
    with torch.inference_mode():
        found, features = model.eval()(ids, mask), model.features(ids, mask)
    info = BundleInfo(format="encoder", text="text", max_tokens=MAX_TOKENS, parameters=1)
    place = tmp_path / "bundle"
    save_encoder(model, place, tokenizer=tokenizer, info=info, keys=np.array([7], dtype=np.uint64))

    again, _, new = load_language_model(str(place), share=0.5, **options)
    assert not new
    encoder = load_base_model(str(place), **options).encoder.eval()
    assert BundleInfo.load(place) == info
    assert read_text_keys(place).tolist() == [7]
    with torch.inference_mode():
        assert torch.equal(again.eval()(ids, mask), found)
        hidden = encoder(input_ids=ids, attention_mask=mask)[0]
        assert torch.equal(mean_over_tokens(hidden, mask), features)
        # What is hidden does not depend on the padding, nor on the other rows.
        alone = [
            again(ids[row : row + 1, : int(mask[row].sum())], mask[row : row + 1, : int(mask[row].sum())])
            for row in range(len(ids))
        ]
        assert torch.cat(alone).numpy() == pytest.approx(found.numpy(), abs=1e-3, rel=1e-3)


@pytest.mark.parametrize("kind", ["mpnet", "roberta"])
def test_the_longest_text_fits_the_positions(kind: str, tmp_path: Path) -> None:
    """Their positions begin behind the padding token's: 64 embeddings read 62 tokens."""
    base = load_base_model(str(make_base_model(kind, tmp_path)), max_tokens=62, dropout=0)
    tokens = TextList([LONG]).tokens(tmp_path, max_tokens=62)
    assert tokens.lengths.tolist() == [62]
    with torch.inference_mode():
        logits = Classifier(base.encoder, classes=2).eval()(*collate(tokens, np.array([0])))
    assert logits.isfinite().all()
