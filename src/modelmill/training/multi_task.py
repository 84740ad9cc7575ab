"""One encoder learns the labels of many signals at once, of any number of datasets: all data flows into it.

Hard parameter sharing (R. Caruana, "Multitask Learning", 1997): each signal has a linear head of its own on
the mean over the tokens, and all of them train the same encoder. A row trains the heads of the signals that
it has a label for, and no others. The heads are thrown away: ``train_heads`` makes better ones on the frozen
encoder.

How much of the loss a signal gets is smoothed as languages are in multilingual models (N. Arivazhagan et al.,
"Massively Multilingual Neural Machine Translation in the Wild", 2019, arXiv 1907.05019): in proportion to its
labels, to a power. Rows are weighed rather than drawn, so that each label is read in each epoch.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from modelmill.errors import ConfigError
from modelmill.models.base_model import load_base_model
from modelmill.models.bundle import BundleInfo
from modelmill.models.classifier import Classifier, all_logits, parameter_count
from modelmill.models.language_model import save_encoder_only
from modelmill.models.trainable import TrainableModel
from modelmill.tasks.base import Measures, Task
from modelmill.tasks.examples import LabelledData, Rows
from modelmill.tokens.texts import Texts
from modelmill.tokens.token_ids import Places, Tokens
from modelmill.training.losses import Loss
from modelmill.training.options import TeachingOptions
from modelmill.training.rows import EncodedRows
from modelmill.training.state import TrainingHistory
from modelmill.training.trainer import train
from modelmill.workspace import Workspace


@dataclass(frozen=True)
class TaughtTexts:
    """Texts with labels of some signals."""

    name: str
    """Where they come from, for the log."""
    texts: Texts
    signals: Sequence[LabelledData]


@dataclass(frozen=True)
class TaughtEncoder:
    """An encoder that has learned the labels of many signals."""

    folder: Path
    """Its bundle, of format ``encoder``."""
    metrics: Mapping[str, float]
    """On the validation rows; empty without such rows."""
    history: TrainingHistory


@dataclass(frozen=True)
class _Signal:
    """One signal among all."""

    name: str
    task: Task
    outputs: slice
    """Its logits among those of all signals."""
    rows: Places
    """Its labelled rows among the rows of all datasets, ``(labels,)``."""
    targets: npt.NDArray[np.generic]
    """In units, of the same rows."""
    classes: tuple[str, ...]


def teach_encoder(
    sources: Sequence[TaughtTexts],
    options: TeachingOptions,
    workspace: Workspace,
    *,
    learned_before: npt.NDArray[np.uint64],
) -> TaughtEncoder:
    """Train one encoder on all labels, resuming from the newest intact checkpoint of an attempt that died.

    The mean over the signals of how well they are answered on validation rows chooses the epoch that is kept;
    without such rows it is the last.

    :param sources: the texts and their labels.
    :param options: how to train, and the base model.
    :param workspace: gets checkpoints, the bundle, metrics and the log.
    :param learned_before: keys of the texts that the base model has read on without labels, rising.
    :return: the encoder.
    :raises InputError: if the base model or the options cannot be used, or there is one signal only.
    """
    if sum(len(source.signals) for source in sources) < 2:
        raise ConfigError(
            "an encoder of many signals learns two at least",
            got=", ".join(signal.label for source in sources for signal in source.signals) or "none",
            remedy="add datasets or label columns, or use fine_tune for one label",
        )
    base = load_base_model(options.base_model, max_tokens=options.max_tokens, dropout=options.dropout)
    tokenizer = base.tokenizer
    rows, signals = _gathered(sources, tokenizer.parent, options, split="train")
    held_out, measured_on = _gathered(sources, tokenizer.parent, options, split="validation")
    torch.manual_seed(options.seed)
    model = Classifier(base.encoder, classes=signals[-1].outputs.stop, dropout=options.dropout)
    shares = signal_shares([len(signal.rows) for signal in signals], power=options.size_power)
    _describe(model, rows, signals, shares, workspace)
    torch.manual_seed(options.seed)
    history = train(
        model,
        rows,
        validation=held_out if len(held_out.tokens) else None,
        loss=_masked_loss(signals, shares, rows=len(rows.tokens)),
        options=options,
        workspace=workspace,
        measure=functools.partial(_measured, signals=measured_on),
    )
    folder = workspace.workdir / "bundle"
    info = BundleInfo(
        format="encoder",
        text=sources[0].texts.column,
        max_tokens=options.max_tokens,
        parameters=parameter_count(model.encoder),
    )
    save_encoder_only(model.encoder, folder, tokenizer=tokenizer, info=info, keys=learned_before)
    return TaughtEncoder(folder, _reported(model, held_out, measured_on, workspace), history)


def signal_shares(labels: Sequence[int], *, power: float) -> npt.NDArray[np.float64]:
    """Return which share of the loss each signal gets.

    :param labels: of each signal, the rows with a label.
    :param power: 0: each signal the same; 1: each label the same.
    :return: ``(signals,)``, with a sum of 1.
    """
    sizes = np.array(labels, np.float64) ** power
    shares: npt.NDArray[np.float64] = sizes / sizes.sum()
    return shares


def _gathered(
    sources: Sequence[TaughtTexts], folder: Path, options: TeachingOptions, *, split: str
) -> tuple[EncodedRows, list[_Signal]]:
    """Return the rows of all sources that have a label of any signal, and the signals with their rows."""
    tokens, signals, start, output = Tokens.of([]), list[_Signal](), 0, 0
    for source in sources:
        own: list[Rows] = [getattr(signal, split) for signal in source.signals]
        places = np.unique(np.concatenate([rows.places for rows in own]))
        if len(places):
            read = source.texts.tokens(folder, max_tokens=options.max_tokens).take(places)
            tokens = Tokens.joined(tokens, read) if start else read
        for signal, rows in zip(source.signals, own, strict=True):
            mean, spread = signal.units
            signals.append(
                _Signal(
                    f"{source.name}: {signal.label}" if len(sources) > 1 else signal.label,
                    signal.task,
                    slice(output, output + signal.outputs),
                    (start + np.searchsorted(places, rows.places)).astype(np.int64),
                    rows.targets if signal.task.has_classes else (rows.targets - mean) / spread,
                    signal.classes,
                )
            )
            output += signal.outputs
        start += len(places)
    return EncodedRows(tokens, np.zeros(len(tokens), dtype=np.int64)), signals


def _masked_loss(signals: Sequence[_Signal], shares: npt.NDArray[np.float64], *, rows: int) -> Loss:
    """Return a mean over the rows to which each signal adds where a row has a label of it.

    A signal's part is its share, times the mean loss of its labels, whatever number of rows lacks one.
    """
    wanted = []
    for signal in signals:
        targets = signal.task.unlabelled(rows, signal.classes)
        targets[signal.rows] = signal.targets
        wanted.append(torch.from_numpy(targets))
    weights = [float(share) * rows / len(one.rows) for share, one in zip(shares, signals, strict=True)]
    tasks = [(signal.task, signal.outputs) for signal in signals]

    def loss(logits: torch.Tensor, _targets: torch.Tensor, places: Places) -> torch.Tensor:
        total = logits.new_zeros(())
        for (task, outputs), targets, weight in zip(tasks, wanted, weights, strict=True):
            own = targets[torch.from_numpy(places)].to(logits.device)
            each = task.row_losses(logits[:, outputs], own)  # (batch,)
            total = total + weight * torch.where(task.known(own), each, 0.0).mean()
        return total

    return loss


def _measured(model: TrainableModel, rows: EncodedRows, *, signals: Sequence[_Signal]) -> Measures:
    logits = all_logits(model, rows.tokens)
    found = {
        signal.name: signal.task.quality(logits[signal.rows][:, signal.outputs], signal.targets)
        for signal in signals
        if len(signal.rows)
    }
    firsts = {name: next(iter(measures.values())) for name, measures in found.items()}
    return {"mean_quality": float(np.mean([*firsts.values()])), "worst_quality": min(firsts.values())}


def _describe(
    model: Classifier,
    rows: EncodedRows,
    signals: Sequence[_Signal],
    shares: npt.NDArray[np.float64],
    workspace: Workspace,
) -> None:
    where = "GPU" if torch.cuda.is_available() else "CPU"
    labels = sum(len(signal.rows) for signal in signals)
    workspace.log(
        f"{len(signals)} signals, {labels:,} labels of {len(rows.tokens):,} rows; {model.config.model_type} "
        f"with {parameter_count(model.encoder):,} parameters, on the {where}"
    )
    for signal, share in zip(signals, shares, strict=True):
        said = signal.task.describe(signal.classes)
        workspace.log(f"{signal.name}: {said}, {len(signal.rows):,} labels, {share:.1%} of the loss")


def _reported(
    model: Classifier, rows: EncodedRows, signals: Sequence[_Signal], workspace: Workspace
) -> dict[str, float]:
    """Say how well the heads that are thrown away answer each signal; return the mean and the worst."""
    if not len(rows.tokens):
        return {}
    logits = all_logits(model, rows.tokens)
    for signal in signals:
        if len(signal.rows):
            found = signal.task.quality(logits[signal.rows][:, signal.outputs], signal.targets)
            shown = ", ".join(f"{name} {value:.4f}" for name, value in found.items())
            workspace.log(f"{signal.name}: {shown}")
    return {f"validation_{name}": value for name, value in _measured(model, rows, signals=signals).items()}
