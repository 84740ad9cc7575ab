"""bf16 and compiled models: they learn the same, and are used only where they pay."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
import torch._inductor.config
from torch import nn

from modelmill.errors import ModelError
from modelmill.models.base_model import load_base_model
from modelmill.models.classifier import Classifier
from modelmill.steps.fine_tune import FineTuneConfig
from modelmill.training import acceleration
from modelmill.training.acceleration import CompileTrial, ModelRunner, bf16_gain, chosen_precision


def configured(base: Path, **changes: object) -> FineTuneConfig:
    return FineTuneConfig.model_validate({"base_model": str(base), **changes})


needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")


@pytest.mark.parametrize(("gain", "chosen"), [(0.4, "fp32"), (1.1, "fp32"), (3.0, "bf16")])
def test_a_gpu_computes_in_bf16_where_that_is_measured_to_be_faster(
    gain: float, chosen: str, tiny_base_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What is measured is a device's, and there is none here.
    monkeypatch.setattr(acceleration, "bf16_gain", lambda device: gain)
    config, lines = configured(tiny_base_model), []
    assert chosen_precision(config, torch.device("cuda"), log=lines.append) == chosen
    assert lines == [
        f"bf16 products are {gain:.2g} times as fast as fp32 here: the training computes in {chosen}"
    ]
    assert chosen_precision(config, torch.device("cpu"), log=lines.append) == "fp32"


def test_the_gain_is_measured() -> None:
    assert 0 < bf16_gain(torch.device("cpu")) < 1000


def steps(trial: CompileTrial, seconds: float, *, left: int = 10_000) -> list[str]:
    said = []
    before = trial.compiled, trial.decided
    while (trial.compiled, trial.decided) == before:
        found = trial.step(seconds, tokens=1000, steps_left=left)
        said += [found] if found else []
    return said


@pytest.mark.parametrize(
    ("seconds", "kept", "said"),
    [(0.05, True, "2.00 times as fast: kept"), (0.099, False, "1.01 times as fast: dropped")],
)
def test_a_compiled_model_is_tried_and_kept_if_it_is_faster(seconds: float, kept: bool, said: str) -> None:
    trial = CompileTrial()
    assert steps(trial, 0.1) == ["trying a compiled model"]
    assert trial.compiled
    [found] = steps(trial, seconds) if not kept else kept_after(trial, seconds)
    assert found == f"a compiled model is {said}"
    assert trial.compiled == kept
    assert trial.step(1.0, tokens=1000, steps_left=10) is None


def kept_after(trial: CompileTrial, seconds: float) -> list[str]:
    return [found for _ in range(100) if (found := trial.step(seconds, tokens=1000, steps_left=10_000))]


def test_a_short_training_is_not_worth_a_trial() -> None:
    trial = CompileTrial()
    assert steps(trial, 0.1, left=100) == []
    assert (trial.compiled, trial.decided) == (False, True)


def runner(base: Path, lines: list[str], *, compiled: str) -> tuple[ModelRunner, nn.Module]:
    torch.manual_seed(0)
    encoder = load_base_model(str(base), max_tokens=16, dropout=0).encoder
    layers = encoder.get_submodule("encoder.layer")
    assert isinstance(layers, nn.ModuleList)
    del layers[1:]  # a compiler takes half a minute for each one
    model = Classifier(encoder, classes=2).train()
    return ModelRunner(model, configured(base, compiled=compiled), "fp32", log=lines.append), model


IDS = torch.tensor([[2, 5, 6, 3], [2, 7, 3, 0]])
MASK = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])


@needs_compiler
@pytest.mark.filterwarnings("ignore")
def test_a_compiled_model_answers_the_same(tiny_base_model: Path) -> None:
    compiled, model = runner(tiny_base_model, [], compiled="always")
    logits = compiled(IDS, MASK)
    assert torch.allclose(logits, model(IDS, MASK), atol=1e-5)
    logits.sum().backward()
    found = [value.grad.clone() for value in model.parameters() if value.grad is not None]
    model.zero_grad()
    model(IDS, MASK).sum().backward()
    expected = [value.grad for value in model.parameters() if value.grad is not None]
    assert all(torch.allclose(*pair, atol=1e-4) for pair in zip(found, expected, strict=True))


@pytest.mark.filterwarnings("ignore")
def test_without_a_compiler_the_model_runs_as_it_is_unless_it_must_be_compiled(
    tiny_base_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch._inductor.config.cpp, "cxx", ("/nowhere/g++",))
    torch._dynamo.reset()
    lines: list[str] = []
    tried, model = runner(tiny_base_model, lines, compiled="auto")
    tried.trial.compiled, tried.trial.decided = True, False
    assert torch.equal(tried(IDS, MASK), model(IDS, MASK))
    assert not tried.trial.compiled
    [line] = lines
    assert line.startswith("the model is not compiled: ")
    forced, _ = runner(tiny_base_model, [], compiled="always")
    with pytest.raises(ModelError, match=r"must be one that torch.compile takes .*got 'compiled=always'"):
        forced(IDS, MASK)
