"""The training loop: it learns, it is the same every time, and a killed one ends as if it had not been."""

from __future__ import annotations

import dataclasses
import random
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from modelmill.component import StepContext
from modelmill.datasets.options import LabelKind
from modelmill.errors import ModelError
from modelmill.models.base_model import load_base_model
from modelmill.models.classifier import Classifier
from modelmill.steps.fine_tune import FineTuneConfig
from modelmill.tasks.kinds import task_of
from modelmill.tokens.token_ids import Tokens
from modelmill.training.batching import batches, parts
from modelmill.training.optimizer import learning_rate_factor
from modelmill.training.rows import EncodedRows, quality
from modelmill.training.state import TrainingHistory
from modelmill.training.trainer import train


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def encoded(count: int, seed: int) -> EncodedRows:
    """Rows of [CLS] words [SEP], where two words out of twelve give the class away."""
    source = random.Random(seed)
    rows, targets = [], []
    for number in range(count):
        target = number % 2
        words = source.choices(range(4 + 6 * target, 10 + 6 * target), k=2)
        words += source.choices(range(16, 24), k=source.randint(1, 10))
        source.shuffle(words)
        rows.append(np.array([2, *words, 3], dtype=np.int64))
        targets.append(target)
    return EncodedRows(Tokens.of(rows), np.array(targets, dtype=np.int64))


def configured(base: Path, **changes: object) -> FineTuneConfig:
    # With dropout, whatever the default is: a resume has to bring back the random state too.
    settings: dict[str, object] = {"epochs": 4, "batch_size": 8, "frozen_layers": 0, "dropout": 0.1}
    settings |= {"learning_rate": 3e-3, "head_learning_rate": 1e-2, "max_tokens": 16}
    return FineTuneConfig.model_validate({"base_model": str(base), **settings, **changes})


def fit(
    base: Path, config: FineTuneConfig, context: StepContext, *, validate: bool = True
) -> tuple[Classifier, TrainingHistory]:
    encoder = load_base_model(str(base), max_tokens=16, dropout=config.dropout).encoder
    torch.manual_seed(config.seed)
    model = Classifier(encoder, classes=2, dropout=config.dropout)
    trained = train(
        model,
        encoded(60, 1),
        validation=encoded(20, 2) if validate else None,
        loss=lambda logits, targets, _: functional.cross_entropy(logits, targets),
        options=config,
        workspace=context,
    )
    return model, trained


def same_bits(first: Mapping[str, torch.Tensor], second: Mapping[str, torch.Tensor]) -> bool:
    return all(torch.equal(value, second[name]) for name, value in first.items())


def elsewhere(context: StepContext, name: str) -> StepContext:
    folder = context.workdir / name
    folder.mkdir()
    return dataclasses.replace(context, workdir=folder)


def test_a_trivial_task_is_learned(tiny_base_model: Path, step_context: StepContext) -> None:
    model, trained = fit(tiny_base_model, configured(tiny_base_model, epochs=10), step_context)
    assert not model.training
    assert quality(model, encoded(40, 3))["accuracy"] >= 0.9
    assert trained.steps == 10 * 8
    assert trained.curve[-1][1] < trained.curve[0][1] / 2
    assert trained.best is not None
    assert trained.best["accuracy"] == max(found["accuracy"] for _, found in trained.epochs)
    metrics = step_context.run.client.get_run(step_context.run.run_id).data.metrics
    assert {"train_loss", "learning_rate", "validation_accuracy", "validation_macro_f1"} <= set(metrics)


def test_the_same_seed_gives_the_same_bits_and_another_seed_does_not(
    tiny_base_model: Path, step_context: StepContext
) -> None:
    def weights(name: str, seed: int) -> dict[str, torch.Tensor]:
        config = configured(tiny_base_model, seed=seed, epochs=1, train_embeddings=True)
        return fit(tiny_base_model, config, elsewhere(step_context, name))[0].state_dict()

    first, again, other = weights("first", 0), weights("again", 0), weights("other", 1)
    assert same_bits(first, again)
    assert not same_bits(first, other)


def test_frozen_parts_keep_their_weights(tiny_base_model: Path, step_context: StepContext) -> None:
    pretrained = load_base_model(str(tiny_base_model), max_tokens=16, dropout=0).encoder.state_dict()
    config = configured(tiny_base_model, epochs=1, frozen_layers=1)
    trained = fit(tiny_base_model, config, step_context)[0].encoder.state_dict()
    for name, value in trained.items():
        kept = torch.equal(value, pretrained[name])
        assert kept == (name.startswith("embeddings.") or ".layer.0." in name), name


def test_the_best_epoch_is_kept(tiny_base_model: Path, step_context: StepContext) -> None:
    model, trained = fit(tiny_base_model, configured(tiny_base_model, epochs=5), step_context)
    assert trained.best is not None
    assert quality(model, encoded(20, 2)) == trained.best


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_training_killed_at_any_step_ends_in_the_same_bits(
    precision: str,
    tiny_base_model: Path,
    step_context: StepContext,
    step_process: Callable[..., subprocess.Popen[str]],
) -> None:
    config = configured(tiny_base_model, checkpoint_seconds=1e-9, precision=precision)
    expected, course = fit(tiny_base_model, config, elsewhere(step_context, "whole"))
    interrupted = elsewhere(step_context, "killed")
    last = random.SystemRandom().randint(2, 26)
    process = step_process(
        interrupted.workdir,
        "from test_loop import configured, fit\n"
        f"base = Path({str(tiny_base_model)!r})\n"
        f"fit(base, configured(base, checkpoint_seconds=1e-9, precision={precision!r}), context)\n",
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.split() == ["step", str(last)]:
            process.kill()
            break
    process.stdout.close()
    assert process.wait() == -9, f"the child ended by itself; step {last}"
    lines: list[str] = []
    model, resumed = fit(tiny_base_model, config, dataclasses.replace(interrupted, log=lines.append))
    assert lines[0].startswith("resuming at step "), f"killed at step {last}"
    assert int(lines[0].split()[3]) >= last - 1
    assert same_bits(model.state_dict(), expected.state_dict()), f"killed at step {last}"
    assert resumed == course


def test_a_finished_training_is_not_run_again(tiny_base_model: Path, step_context: StepContext) -> None:
    config = configured(tiny_base_model)
    first, course = fit(tiny_base_model, config, step_context)
    steps: list[float] = []
    watched = dataclasses.replace(step_context, progress=lambda done, total, **figures: steps.append(done))
    again, repeated = fit(tiny_base_model, config, watched)
    assert steps == []
    assert repeated == course
    assert same_bits(first.state_dict(), again.state_dict())


def test_a_loss_that_is_not_finite_is_refused(tiny_base_model: Path, step_context: StepContext) -> None:
    encoder = load_base_model(str(tiny_base_model), max_tokens=16, dropout=0).encoder
    with pytest.raises(ModelError) as caught:
        train(
            Classifier(encoder, classes=2),
            encoded(8, 1),
            validation=None,
            loss=lambda logits, targets, _: logits.sum() * float("nan"),
            options=configured(tiny_base_model),
            workspace=step_context,
        )
    assert str(caught.value) == (
        "the training loss must stay finite; at step 1 it is nan; got 'learning_rate=0.003'; "
        "lower learning_rate and head_learning_rate, or raise warmup"
    )
    assert not caught.value.retryable


def test_more_frozen_layers_than_there_are_is_refused(
    tiny_base_model: Path, step_context: StepContext
) -> None:
    with pytest.raises(ModelError) as caught:
        fit(tiny_base_model, configured(tiny_base_model, frozen_layers=3), step_context)
    assert str(caught.value) == (
        "frozen_layers must not exceed the model's layers, 2; got 3; lower it to at most 2"
    )


def test_batches_hold_each_row_once_and_rows_of_like_length_together() -> None:
    lengths = np.arange(1000) * 37 % 50 + 2

    def plan(seed: int, epoch: int) -> list[list[int]]:
        return [batch.tolist() for batch in batches(lengths, size=16, seed=seed, epoch=epoch)]

    first = plan(0, 0)
    assert sorted(row for batch in first for row in batch) == list(range(1000))
    assert first == plan(0, 0)
    assert first != plan(0, 1)
    assert first != plan(1, 0)
    padded = sum(len(batch) * max(lengths[row] for row in batch) for batch in first)
    assert padded < 1.1 * sum(lengths)


def test_a_batch_is_cut_where_padding_costs_more_than_a_pass() -> None:
    lengths = np.array([200, 10, 12, 11, 190, 12])
    batch = np.arange(6) + 100
    assert [part.tolist() for part in parts(batch, lengths, most=6)] == [[101, 103, 102, 105], [104, 100]]
    assert [len(part) for part in parts(batch, lengths, most=2)] == [2, 2, 2]
    alike = np.full(6, 30)
    assert [part.tolist() for part in parts(batch, alike, most=6)] == [batch.tolist()]


def test_batches_are_pools_sorted_by_length_and_shuffled() -> None:
    lengths, size = np.arange(777) * 37 % 50 + 2, 8
    random = np.random.default_rng([5, 2])
    order, expected = random.permutation(777).tolist(), []
    for start in range(0, 777, size * 20):
        pool = sorted(order[start : start + size * 20], key=lambda row: lengths[row])
        expected += [pool[at : at + size] for at in range(0, len(pool), size)]
    expected = [expected[index] for index in random.permutation(len(expected))]
    assert [batch.tolist() for batch in batches(lengths, size=size, seed=5, epoch=2)] == expected


@pytest.mark.parametrize(("warmup", "top"), [(0.0, 0), (0.1, 10), (0.5, 50)])
def test_the_rate_rises_and_falls_linearly(warmup: float, top: int) -> None:
    rates = [learning_rate_factor(step, 100, warmup=warmup) for step in range(100)]
    assert all(0 < value <= 1 for value in rates)
    assert abs(int(np.argmax(rates)) - top) <= 1
    assert rates[-1] < 0.03


def test_quality_counts_by_class(tiny_base_model: Path) -> None:
    encoder = load_base_model(str(tiny_base_model), max_tokens=16, dropout=0).encoder
    model = Classifier(encoder, classes=2).eval()
    with torch.no_grad():
        model.head.weight.zero_()
        model.head.bias.copy_(torch.tensor([1.0, 0.0]))
    rows = encoded(4, 1)
    found = quality(model, dataclasses.replace(rows, targets=np.array([0, 0, 0, 1])))
    # Class 0: precision 3/4, recall 1; class 1 is never answered.
    assert found == {"accuracy": 0.75, "macro_f1": pytest.approx((2 * 3 / 7 + 0) / 2)}


def test_a_batch_that_does_not_fit_is_halved_and_comes_out_the_same(
    tiny_base_model: Path, step_context: StepContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configured(tiny_base_model, epochs=1, dropout=0.0)
    whole, _ = fit(tiny_base_model, config, elsewhere(step_context, "whole"))
    forward = Classifier.forward

    def small(self: Classifier, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        if self.training and len(ids) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(self, ids, mask)

    monkeypatch.setattr(Classifier, "forward", small)
    lines: list[str] = []
    halved, trained = fit(
        tiny_base_model, config, dataclasses.replace(elsewhere(step_context, "half"), log=lines.append)
    )
    assert lines[:2] == [
        "out of memory: batches of 8 are computed 4 rows at a time from here on",
        "out of memory: batches of 8 are computed 2 rows at a time from here on",
    ]
    assert trained.steps == 8
    for name, value in whole.state_dict().items():
        assert torch.allclose(value, halved.state_dict()[name], atol=1e-5), name


def test_a_row_that_does_not_fit_is_refused(
    tiny_base_model: Path, step_context: StepContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(self: Classifier, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes")

    monkeypatch.setattr(Classifier, "forward", never)
    with pytest.raises(ModelError) as caught:
        fit(tiny_base_model, configured(tiny_base_model), step_context)
    assert str(caught.value).startswith("the model and one row must fit into memory; got '")
    assert not caught.value.retryable


def test_on_a_cpu_nothing_changes_by_itself(tiny_base_model: Path, step_context: StepContext) -> None:
    plain = configured(tiny_base_model, epochs=1, precision="fp32", compiled="never")
    expected, _ = fit(tiny_base_model, plain, elsewhere(step_context, "plain"))
    found, _ = fit(tiny_base_model, configured(tiny_base_model, epochs=1), elsewhere(step_context, "auto"))
    assert same_bits(found.state_dict(), expected.state_dict())


def test_bf16_learns_nearly_the_same_and_leaves_fp32_weights(
    tiny_base_model: Path, step_context: StepContext
) -> None:
    config = configured(tiny_base_model, dropout=0.0)
    _, exact = fit(tiny_base_model, config, elsewhere(step_context, "fp32"))
    lines: list[str] = []
    context = dataclasses.replace(elsewhere(step_context, "bf16"), log=lines.append)
    model, trained = fit(tiny_base_model, config.model_copy(update={"precision": "bf16"}), context)
    assert lines[0].startswith("bf16 products are ")
    assert lines[0].endswith("the training computes in bf16")
    assert {value.dtype for value in model.parameters()} == {torch.float32}
    losses = [[loss for _, loss in course.curve] for course in (exact, trained)]
    assert losses[0] != losses[1]
    assert np.abs(np.subtract(*losses)).max() < 0.05


def test_a_training_without_progress_ends_early(tiny_base_model: Path, step_context: StepContext) -> None:
    config = configured(tiny_base_model, epochs=6, patience=2, learning_rate=1e-12, head_learning_rate=1e-12)
    _, trained = fit(tiny_base_model, config, step_context)
    assert len(trained.epochs) == 3


@pytest.mark.parametrize(
    ("target", "logits", "targets", "expected"),
    [
        ("classes", [[1, -1], [1, 1]], [[1, 0], [0, 1]], {"micro_f1": 0.8, "macro_f1": (2 / 3 + 1) / 2}),
        ("classes", [[-1, -1]], [[0, 0]], {"micro_f1": 0.0, "macro_f1": 0.0}),
        ("number", [[1.0], [3.0]], [1.0, 2.0], {"r2": -1.0, "rmse": 0.5**0.5}),
        ("number", [[1.0]], [2.0], {"r2": 0.0, "rmse": 1.0}),
    ],
)
def test_measures_of_sets_and_numbers(
    target: LabelKind, logits: list[list[float]], targets: list[object], expected: dict[str, float]
) -> None:
    found = task_of(target).quality(np.array(logits, np.float32), np.array(targets, np.float32))
    assert dict(found) == pytest.approx(expected)
