"""Loading a base model: weights and configuration, never code, and a reason when it is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from modelmill.errors import ModelError
from modelmill.models.base_model import load_base_model
from modelmill.models.base_model_folder import check_base_model

DOWNLOAD = "download the model again"


@pytest.fixture
def folder(tiny_base_model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_base_model, tmp_path / "base"))


def refusal(name: str | Path, *, max_tokens: int = 16) -> str:
    with pytest.raises(ModelError) as caught:
        load_base_model(str(name), max_tokens=max_tokens, dropout=0.1)
    assert not caught.value.retryable
    assert "\n" not in str(caught.value)
    return str(caught.value)


def edit(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_folder_is_loaded_with_the_dropout_that_was_asked_for(folder: Path) -> None:
    base = load_base_model(str(folder), max_tokens=64, dropout=0.25)
    assert base.tokenizer == folder / "tokenizer.json"
    assert base.encoder.config.hidden_dropout_prob == 0.25
    assert base.encoder.config.attention_probs_dropout_prob == 0.25
    assert not any("pooler" in name for name in base.encoder.state_dict())


CODE = {
    "auto_map": {"AutoModel": "modeling_evil.Evil"},
    "trust_remote_code": True,
    "custom_pipelines": {"evil": {"impl": "evil.Pipeline"}},
    "attn_implementation": "someone/kernel",
    "_attn_implementation": "someone/kernel",
    "_attn_implementation_internal": "someone/kernel",
    "_experts_implementation": "someone/kernel",
    "_experts_implementation_internal": "someone/kernel",
}


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("key", CODE)
def test_a_configuration_that_asks_for_code_is_refused(folder: Path, key: str, deep: bool) -> None:
    asks = {key: CODE[key]}
    edit(folder, **({"task_specific_params": {"deep": [asks]}} if deep else asks))
    assert refusal(folder) == (
        f"a base model must not bring or choose code: {folder}/config.json has the key '{key}'; take a "
        "model whose architecture transformers has itself, or remove the key if you know that the model "
        "needs no code"
    )


def test_pickled_weights_are_refused(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    assert refusal(folder) == (
        f"weights must be safetensors: a pickle file can run code; got '{folder}/pytorch_model.bin'; "
        "convert it with transformers' save_pretrained, or take a model with model.safetensors"
    )


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    assert refusal(folder) == (
        "a base model's folder has config.json, tokenizer.json, model.safetensors; "
        f"missing here: {name}; got '{folder}'; {DOWNLOAD}"
    )


def test_a_path_that_is_no_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "nowhere"):
        assert refusal(path) == (
            "base_model must be a readable folder, or a Hugging Face id such as "
            f"sentence-transformers/all-MiniLM-L6-v2; got '{path}'; "
            "give a folder with config.json, tokenizer.json, model.safetensors"
        )


def test_an_id_is_looked_up_in_the_cache_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    assert refusal("nobody/nothing-of-this-name") == (
        "the base model must be in the Hugging Face cache or downloadable (LocalEntryNotFoundError); "
        "got 'nobody/nothing-of-this-name'; give a local folder, or set HF_HUB_OFFLINE=0 to download it"
    )


def test_broken_json_is_refused(folder: Path) -> None:
    (folder / "config.json").write_text("{")
    assert refusal(folder) == (
        f"config.json must be readable JSON (JSONDecodeError); got '{folder}/config.json'; {DOWNLOAD}"
    )


@pytest.mark.parametrize(("kind", "hint"), [("berd", "did you mean 'bert'?"), ("gpt2", "allowed: ")])
def test_an_architecture_that_cannot_be_exported_is_refused(folder: Path, kind: str, hint: str) -> None:
    edit(folder, model_type=kind)
    found = refusal(folder)
    assert hint in found
    if kind == "gpt2":
        assert found.startswith(
            "base_model must be a text encoder that can be trained and exported; got 'gpt2'; "
            "allowed: 'albert'"
        )


def test_positions_behind_the_padding_token_count(folder: Path) -> None:
    """RoBERTa gives the first token the position behind the padding's id: 64 embeddings read 62 tokens."""
    edit(folder, model_type="roberta", pad_token_id=1)
    with pytest.raises(ModelError, match="what the base model can read, 62; got 64"):
        check_base_model(str(folder), max_tokens=64)
    check_base_model(str(folder), max_tokens=62)
    edit(folder, pad_token_id=0)
    check_base_model(str(folder), max_tokens=63)


def test_a_base_model_that_is_not_here_yet_passes(folder: Path, tmp_path: Path) -> None:
    for name in (str(tmp_path / "nowhere"), "nobody/nothing-of-this-name", "not an id", "a/b/c/d"):
        check_base_model(name, max_tokens=64)


def test_broken_weights_are_refused(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"not safetensors")
    assert refusal(folder).startswith("model.safetensors must hold the weights that config.json describes (")


def test_weights_of_another_size_are_refused(folder: Path) -> None:
    edit(folder, num_hidden_layers=3)
    assert refusal(folder).startswith(
        "model.safetensors must hold all weights of the encoder; 16 are missing"
    )
    edit(folder, num_hidden_layers=2, intermediate_size=128)
    assert refusal(folder).startswith("model.safetensors must hold the weights that config.json describes (")


def test_a_broken_tokenizer_is_refused(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{}")
    assert refusal(folder).startswith("tokenizer.json must be one that the tokenizers library reads (")


def test_a_tokenizer_of_another_model_is_refused(folder: Path) -> None:
    edit(folder, vocab_size=10)
    assert refusal(folder).startswith(
        "tokenizer.json and config.json must be of one model: 24 tokens, 10 embeddings"
    )


def test_more_tokens_than_the_model_reads_are_refused(folder: Path) -> None:
    assert refusal(folder, max_tokens=65) == (
        "max_tokens must not exceed what the base model can read, 64; got 65; lower it to at most 64"
    )


def test_a_decoder_is_refused(folder: Path) -> None:
    edit(folder, is_decoder=True)
    assert refusal(folder) == (
        "a base model must be a text encoder such as BERT; got 'bert'; take an encoder-only model"
    )


@pytest.mark.timeout(60)  # to build the largest of them takes longer, and more memory than there is
@pytest.mark.parametrize(
    "changes",
    [
        {"num_hidden_layers": -1},
        {"num_hidden_layers": 1_000_000},
        {"num_hidden_layers": True},
        {"num_hidden_layers": 900},
        {"hidden_size": 10**9},
        {"vocab_size": 16_000_000},
        {"num_attention_heads": 0},
        {"num_labels": 10**9},
        {"id2label": {str(number): "x" * 20 for number in range(150_000)}},
    ],
)
def test_a_configuration_beyond_all_bounds_is_refused_at_once(folder: Path, changes: dict[str, Any]) -> None:
    edit(folder, **changes)
    said = refusal(folder)
    assert "config.json" in said


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_link_out_of_the_folder_is_refused(folder: Path, tmp_path: Path, name: str) -> None:
    elsewhere = tmp_path / name
    (folder / name).rename(elsewhere)
    for target, reason in ((Path("/dev/zero"), "regular files"), (elsewhere, "a link out of it")):
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(target)
        said = refusal(folder)
        assert reason in said
        assert str(folder / name) in said


@pytest.mark.parametrize("part", ["../model.safetensors", "model\0.safetensors"])
def test_a_part_outside_of_the_folder_is_refused(folder: Path, part: str) -> None:
    index = {"weight_map": {"a": part}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "lie in its folder" in refusal(folder)


def test_deep_json_is_refused(folder: Path) -> None:
    (folder / "config.json").write_text('{"a":' * 100_000 + "1" + "}" * 100_000)
    assert "config.json" in refusal(folder)


def test_links_within_the_cache_of_a_model_are_followed(folder: Path, tmp_path: Path) -> None:
    blobs = tmp_path / "models--a--b" / "blobs"
    snapshot = tmp_path / "models--a--b" / "snapshots" / "1"
    snapshot.mkdir(parents=True)
    shutil.copytree(folder, blobs)
    for path in blobs.iterdir():
        (snapshot / path.name).symlink_to(f"../../blobs/{path.name}")
    assert load_base_model(str(snapshot), max_tokens=16, dropout=0.1).encoder
