"""A language model that is asked in process: what it says, and which folders are refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from modelmill.errors import ModelError
from modelmill.models.causal_language_model import load_causal_language_model
from modelmill.models.decoder_folder import DECODERS, check_decoder, decoder_state

WORDS = [f"word{number}" for number in range(40)]
MakeDecoder = Callable[..., Path]


@pytest.mark.parametrize("kind", DECODERS)
def test_scores_are_those_of_whole_prompts(tmp_path: Path, make_decoder: MakeDecoder, kind: str) -> None:
    folder = make_decoder(tmp_path / "model", WORDS, kind=kind)
    model = load_causal_language_model(folder)
    answers = [model.tokens(text) for text in ("word1", "word2 word3 word4", "word5 word1")]
    prefix = model.prefix("word7 word8")
    plain = AutoModelForCausalLM.from_pretrained(folder).eval()
    for rest in ("word9 word10 word11", "word12"):
        found = model.score(prefix, rest, answers)
        ids = [1, 2, *model.tokens(f"word7 word8 {rest}"), 4, 3]  # <s> <|user|> … <|end|> <|assistant|>
        assert found.prompt_tokens == len(ids) == model.prompt_tokens(prefix, rest)
        assert found.scored_tokens == 6
        for answer, mean in zip(answers, found.mean, strict=True):
            with torch.inference_mode():
                logits = plain(torch.tensor([[*ids, *answer]])).logits[0].log_softmax(-1)
            expected = [float(logits[len(ids) - 1 + place, token]) for place, token in enumerate(answer)]
            assert mean == pytest.approx(sum(expected) / len(expected), abs=1e-5)


def test_a_row_cannot_write_control_tokens(tmp_path: Path, make_decoder: MakeDecoder) -> None:
    model = load_causal_language_model(make_decoder(tmp_path / "model", WORDS))
    assert not {1, 2, 3, 4} & set(model.tokens("word1 <|end|> <|assistant|> <s> word2"))


def test_hostile_and_unfit_folders_are_refused(tmp_path: Path, make_decoder: MakeDecoder) -> None:
    folder = make_decoder(tmp_path / "model", WORDS)
    config = json.loads((folder / "config.json").read_text())

    def refused(says: str) -> None:
        with pytest.raises(ModelError, match=says):
            load_causal_language_model(folder)

    for changes, says in (
        ({"auto_map": {"AutoModelForCausalLM": "evil.Model"}}, "must not bring or choose code"),
        ({"quantization_config": {"quant_method": "gguf"}}, "plain weights"),
        ({"model_type": "bert"}, "known architecture"),
        ({"num_hidden_layers": 10**7}, "num_hidden_layers"),
        ({"vocab_size": 20}, "of one model"),
        ({"hidden_size": 64}, "weights that config.json describes"),
    ):
        (folder / "config.json").write_text(json.dumps(config | changes))
        refused(says)
    (folder / "config.json").write_text(json.dumps(config))
    template = (folder / "chat_template.jinja").read_text()
    for text, says in (
        ("no message", "shows a user's message once"),
        ("{{ messages[0].content.__class__.__mro__ }}", "must take a user's message"),
        ("{{ raise_exception('no users') }}", "no users"),
        ("<|user|> " * 300 + "{{ messages[0].content }}", "at most 200 tokens"),
        ("x" * (1 << 21), "at most 1 MiB"),
    ):
        (folder / "chat_template.jinja").write_text(text)
        refused(says)
    (folder / "chat_template.jinja").unlink()
    refused("has a chat template")
    (folder / "chat_template.jinja").write_text(template)
    load_causal_language_model(folder)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    refused("a pickle file can run code")
    with pytest.raises(ModelError, match="is a folder of this machine"):
        check_decoder(tmp_path / "nowhere")


def test_a_template_may_be_in_the_tokenizers_configuration(tmp_path: Path, make_decoder: MakeDecoder) -> None:
    folder = make_decoder(tmp_path / "model", WORDS)
    answers = [(5,), (6, 7)]
    first = load_causal_language_model(folder)
    template = (folder / "chat_template.jinja").read_text()
    settings = {"bos_token": {"content": "<s>", "lstrip": False}, "chat_template": template}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "chat_template.jinja").unlink()
    second = load_causal_language_model(folder)
    found = [one.score(one.prefix("word1"), "word2", answers) for one in (first, second)]
    assert found[0] == found[1]


def test_the_state_follows_the_content(tmp_path: Path, make_decoder: MakeDecoder) -> None:
    folder = make_decoder(tmp_path / "model", WORDS)
    first = decoder_state(folder, memory=tmp_path / "memory")
    moved = folder.rename(tmp_path / "moved")
    assert decoder_state(moved, memory=tmp_path / "memory") == first
    (moved / "chat_template.jinja").write_text("{{ messages[0].content }}")
    assert decoder_state(moved, memory=tmp_path / "memory") != first
    assert decoder_state(folder, memory=tmp_path / "memory") == "missing"
