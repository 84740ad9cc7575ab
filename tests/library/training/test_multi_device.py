"""One training in two processes: it ends as in one, and it survives the death of any of them."""

from __future__ import annotations

import dataclasses
import io
import os
import pickle
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from torch.nn import functional

from modelmill.component import StepContext
from modelmill.errors import ModelError, TransientError
from modelmill.models.base_model import load_base_model
from modelmill.models.classifier import Classifier
from modelmill.pipeline.runner import StepInterrupted, _sigterm_raises
from modelmill.steps.fine_tune import FineTuneConfig
from modelmill.tokens.token_ids import Tokens
from modelmill.training import multi_device as several
from modelmill.training.loop import TrainingJob, TrainingLoop
from modelmill.training.losses import Loss, loss_sum
from modelmill.training.multi_device import process_count, train_in_processes
from modelmill.training.options import Relations
from modelmill.training.ranks import Ranks
from modelmill.training.relations import relation_loss
from modelmill.training.rows import EncodedRows
from modelmill.training.state import TrainingHistory
from modelmill.training.trainer import train
from modelmill.training.tuning_modes import tuned


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def encoded(count: int, seed: int) -> EncodedRows:
    """Rows of [CLS] words [SEP], where the first word gives the class away."""
    source = np.random.default_rng(seed)
    targets = np.arange(count) % 2
    rows = [
        np.array(
            [2, 4 + 6 * target + source.integers(6), *source.integers(16, 24, source.integers(1, 12)), 3]
        )
        for target in targets
    ]
    return EncodedRows(Tokens.of(rows), targets)


def configured(base: Path, **changes: object) -> FineTuneConfig:
    settings: dict[str, object] = {"epochs": 3, "batch_size": 8, "frozen_layers": 0, "max_tokens": 16}
    settings |= {"learning_rate": 3e-3, "head_learning_rate": 1e-2, "train_embeddings": True}
    return FineTuneConfig.model_validate({"base_model": str(base), **settings, **changes})


def fit(
    processes: int, base: Path, context: StepContext, loss: Loss | None = None, **changes: object
) -> tuple[Classifier, TrainingHistory]:
    config = configured(base, **changes)
    encoder = load_base_model(str(base), max_tokens=16, dropout=config.dropout).encoder
    torch.manual_seed(config.seed)
    model = Classifier(encoder, classes=2, dropout=config.dropout)
    # The last batch of 57 rows has a single one: a rank has none.
    loss = loss or (lambda *given: functional.cross_entropy(*given[:2]))
    job = TrainingJob(model, encoded(57, 1), encoded(20, 2), loss, config)
    if processes > 1:
        train_in_processes(processes, job, context)
        return model, TrainingLoop(job, context).run()
    return model, train(
        model, job.rows, validation=job.validation, loss=loss, options=config, workspace=context
    )


def elsewhere(context: StepContext, name: str, **changes: object) -> StepContext:
    folder = context.workdir / name
    folder.mkdir(exist_ok=True)
    return dataclasses.replace(context, workdir=folder, **changes)


def pretend_devices(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process believe in devices; the ranks see that there are none, and use the CPU."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(several, "own_devices", lambda: tuple(map(str, range(count))))


def test_two_processes_learn_what_one_learns(
    tiny_base_model: Path, step_context: StepContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, expected = fit(1, tiny_base_model, elsewhere(step_context, "one"), epochs=6)
    lines: list[str] = []
    steps: list[float] = []
    context = elsewhere(
        step_context, "two", log=lines.append, progress=lambda done, total, **figures: steps.append(done)
    )
    pretend_devices(2, monkeypatch)
    monkeypatch.setattr(several, "_WORTH", 1.0)
    two, found = fit(1, tiny_base_model, context, epochs=6)
    assert "trains in 2 processes" in lines
    assert steps == [float(step) for step in range(1, 49)]
    assert [step for step, _ in found.curve] == [step for step, _ in expected.curve]
    losses = np.array([[loss for _, loss in course.curve] for course in (expected, found)])
    assert np.abs(losses[0] - losses[1]).max() < 1e-5
    assert losses[1][-1] < 0.7 * losses[1][0]
    for name, value in one.state_dict().items():
        assert torch.allclose(value, two.state_dict()[name], atol=1e-4), name
    metrics = step_context.run.client.get_run(step_context.run.run_id).data.metrics
    assert {"train_loss", "validation_accuracy"} <= set(metrics)
    assert not list(context.workdir.glob("ranks-*"))


@pytest.fixture
def heeds_sigterm() -> Iterator[None]:
    """Restore how this process takes SIGTERM: a step that was asked to stop listens no more."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.usefixtures("heeds_sigterm")
def test_whoever_is_killed_the_training_ends_in_the_same_bits(
    tiny_base_model: Path, step_context: StepContext, step_process: Callable[..., subprocess.Popen[str]]
) -> None:
    changes = {"epochs": 6, "dropout": 0.1, "checkpoint_seconds": 1e-9}
    whole, course = fit(2, tiny_base_model, elsewhere(step_context, "whole"), **changes)
    interrupted = elsewhere(step_context, "killed")

    def kill_the_leader(step: int) -> None:
        leader = step_process(
            interrupted.workdir,
            "from test_multi_device import fit\n"
            f"fit(2, Path({str(tiny_base_model)!r}), context, **{changes})\n",
        )
        assert leader.stdout is not None
        assert f"step {step}\n" in leader.stdout
        others = psutil.Process(leader.pid).children(recursive=True)
        assert len([other for other in others if "RANK" in other.environ()]) == 2
        leader.kill()
        leader.wait()
        leader.stdout.close()
        assert psutil.wait_procs(others, timeout=10)[1] == []

    def end_this_process(done: float, _total: float, **_figures: float) -> None:
        if done == 12:
            os.kill(os.getpid(), signal.SIGTERM)

    def kill_a_rank(done: float, _total: float, **_figures: float) -> None:
        if done == 16:
            (rank,) = (child for child in children() if child.environ().get("RANK") == "1")
            rank.kill()

    before = psutil.Process().children(recursive=True)  # such as the Spark engine of other tests

    def children() -> list[psutil.Process]:
        return [child for child in psutil.Process().children(recursive=True) if child not in before]

    def kill_the_launcher(done: float, _total: float, **_figures: float) -> None:
        if done == 18:
            (launcher,) = (
                child for child in children() if "rank_process launch" in " ".join(child.cmdline())
            )
            launcher.kill()

    kill_the_leader(7)
    lines: list[str] = []
    context = dataclasses.replace(interrupted, log=lines.append)
    with _sigterm_raises(), pytest.raises(StepInterrupted):
        fit(2, tiny_base_model, dataclasses.replace(context, progress=end_this_process), **changes)
    assert children() == []
    assert any(line.startswith("resuming at step ") for line in lines)

    with pytest.raises(TransientError) as caught:
        fit(2, tiny_base_model, dataclasses.replace(context, progress=kill_a_rank), **changes)
    assert "rank 1 ended with signal SIGKILL" in str(caught.value)
    assert children() == []

    with pytest.raises(TransientError) as caught:
        fit(2, tiny_base_model, dataclasses.replace(context, progress=kill_the_launcher), **changes)
    assert "the launcher ended with status -9" in str(caught.value)

    lines.clear()
    model, resumed = fit(2, tiny_base_model, context, **changes)
    assert next(int(line.split()[3]) for line in lines if line.startswith("resuming at step ")) >= 15
    assert resumed == course
    for name, value in whole.state_dict().items():
        assert torch.equal(value, model.state_dict()[name]), name


def test_a_rank_without_a_finite_loss_ends_all_and_one_process_can_go_on(
    tiny_base_model: Path, step_context: StepContext
) -> None:
    calls: list[int] = []

    def loss(logits: torch.Tensor, targets: torch.Tensor, rows: np.ndarray) -> torch.Tensor:
        calls.append(len(rows))  # in each rank a list of its own, and one of them fills up first
        return functional.cross_entropy(logits, targets) * (float("inf") if len(calls) > 12 else 1.0)

    with pytest.raises(ModelError) as caught:
        fit(2, tiny_base_model, step_context, loss, checkpoint_seconds=1e-9)
    assert "the training loss must stay finite; at step " in str(caught.value)
    assert str(caught.value).endswith("lower learning_rate and head_learning_rate, or raise warmup")

    lines: list[str] = []
    context = dataclasses.replace(step_context, log=lines.append)
    _, trained = fit(1, tiny_base_model, context)
    assert lines[0].startswith("resuming at step ")
    assert trained.steps == 24


def test_the_first_rank_ends_the_training_early_for_all(
    tiny_base_model: Path, step_context: StepContext
) -> None:
    lines: list[str] = []
    context = dataclasses.replace(step_context, log=lines.append)
    changes = {"epochs": 6, "patience": 2, "learning_rate": 1e-12, "head_learning_rate": 1e-12}
    _, trained = fit(2, tiny_base_model, context, **changes)
    assert len(trained.epochs) == 3
    assert "ends early: no better epoch among the last 2" in lines
    # A later attempt of the step finds it done, and starts nothing.
    lines.clear()
    assert fit(2, tiny_base_model, context, **changes)[1] == trained
    assert "trains in 2 processes" not in lines


def test_each_rank_gets_like_numbers_of_rows_and_tokens() -> None:
    lengths = np.random.default_rng(0).integers(3, 200, 66)
    shares = [Ranks(rank, 3).share(np.arange(66) + 100, lengths) for rank in range(3)]
    assert sorted(np.concatenate(shares)) == list(range(100, 166))
    tokens = [lengths[share - 100].sum() for share in shares]
    assert max(tokens) < 1.05 * min(tokens)
    alone = np.array([5, 2, 9])
    assert Ranks().share(alone, np.array([3, 1, 2])) is alone


def test_several_processes_start_only_where_they_pay(
    tiny_base_model: Path, step_context: StepContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = load_base_model(str(tiny_base_model), max_tokens=16, dropout=0).encoder
    model, rows = Classifier(encoder, classes=2), encoded(57, 1)
    lines: list[str] = []
    count: Callable[..., int] = lambda **changes: process_count(  # noqa: E731
        TrainingJob(model, rows, None, functional.cross_entropy, configured(tiny_base_model, **changes)),
        log=lines.append,
    )
    assert count() == 1
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert count() == 1
    assert lines == []
    pretend_devices(4, monkeypatch)
    assert count() == 1
    assert lines == ["the training is short: it uses the first device only"]
    monkeypatch.setattr(several, "_WORTH", 1.0)
    assert count() == 4
    assert count(batch_size=3) == 3
    assert count(batch_size=1) == 1


def test_mapped_arrays_are_handed_over_by_name(tmp_path: Path) -> None:
    values = np.arange(100_000, dtype=np.float32).reshape(1000, 100)
    np.save(tmp_path / "values.npy", values)
    mapped = np.load(tmp_path / "values.npy", mmap_mode="r")
    with (tmp_path / "pickled").open("wb") as file:
        several._Pickler(file).dump((mapped, mapped[3:5], lambda row: mapped[row]))
    assert (tmp_path / "pickled").stat().st_size < 10_000
    whole, part, read = pickle.loads((tmp_path / "pickled").read_bytes())
    assert isinstance(whole, np.memmap)
    assert np.array_equal(whole, values)
    assert np.array_equal(part, values[3:5])
    assert np.array_equal(read(7), values[7])


def test_rows_are_handed_over_without_the_rest_of_the_dataset() -> None:
    tokens = Tokens.of(np.random.default_rng(0).integers(0, 9, (5000, 20)))
    some = tokens.take(np.array([4711, 3]))
    buffer = io.BytesIO()
    several._Pickler(buffer).dump(EncodedRows(some, np.array([0, 1])))
    assert len(buffer.getvalue()) < 2000
    handed = pickle.loads(buffer.getvalue())
    assert [list(row) for row in handed.tokens] == [list(row) for row in some]


def test_what_is_reported_gets_through_beside_what_is_printed(step_context: StepContext) -> None:
    lines: list[str] = []
    steps: list[float] = []
    context = dataclasses.replace(
        step_context, log=lines.append, progress=lambda done, total, **figures: steps.append(done)
    )
    for line in (
        '50 %\x1e{"done": 3, "total": 4, "figures": {}}',
        "plain",
        "",
        '\x1e{"metrics": {"a": 1.5}, "step": 2}',
    ):
        several._pass_on(line, context)
    assert lines == ["50 %", "plain", ""]
    assert steps == [3]
    assert step_context.run.client.get_run(step_context.run.run_id).data.metrics["a"] == 1.5


def test_adapters_and_losses_with_hooks_are_handed_over(
    tiny_base_model: Path, step_context: StepContext
) -> None:
    mode = {"kind": "lora", "rank": 2, "modules": ["intermediate.dense"]}
    config = configured(tiny_base_model, epochs=1, mode=mode)
    encoders = [load_base_model(str(tiny_base_model), max_tokens=16, dropout=0).encoder for _ in range(2)]
    torch.manual_seed(0)
    model, teacher = (Classifier(encoder, classes=2) for encoder in encoders)
    rows = encoded(24, 1)
    with tuned(model, config) as settings, relation_loss(Relations(), model, teacher, rows.tokens) as loss:
        total = loss_sum(lambda *given: functional.cross_entropy(*given[:2]), loss)
        job = TrainingJob(model, rows, None, total, settings)
        buffer = io.BytesIO()
        several._Pickler(buffer).dump(job)
        handed = pickle.loads(buffer.getvalue())
        assert handed.model is not model
        course = TrainingLoop(job, elsewhere(step_context, "here")).run()
        assert TrainingLoop(handed, elsewhere(step_context, "there")).run() == course
        assert course.curve[-1][1] != course.curve[0][1]
        for name, value in model.state_dict().items():
            assert torch.equal(value, handed.model.state_dict()[name]), name
