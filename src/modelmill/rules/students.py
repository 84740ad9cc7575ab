"""Static students of the models of a rule set: they learn, of texts without labels, which side of the rules'
thresholds the models put each on. That is all a decision depends on.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from modelmill.artifacts import SignalsRef
from modelmill.errors import ConfigError, DatasetError
from modelmill.rules.deciding import Deciding, pinned_signals, prepare, rows_of
from modelmill.rules.first_tier import evaluated, floats, replaced, thresholds, with_probability
from modelmill.rules.rule_set import ModelSignal
from modelmill.rules.trying import Evaluated
from modelmill.serving.bundle import BundleInfo, trunk_folder

if TYPE_CHECKING:
    from modelmill.pipeline.component import StepContext
    from modelmill.rules.components import SignalStudentsConfig, TrialInputs

_OTHER = "another"
"""What a student calls every class but the signal's own."""


def run(config: SignalStudentsConfig, inputs: TrialInputs, context: StepContext) -> SignalsRef:
    """Fit a static student of each model signal, and log them.

    :param config: the step's configuration.
    :param inputs: rows with texts, and models of earlier steps.
    :param context: the step's context.
    :return: the students, by the signal's name.
    :raises RuleSetError: if the rule set breaks a rule; all problems are listed.
    :raises ConfigError: if a signal cannot have a student, or none can.
    :raises DatasetError: if there is no row of which the models say anything.
    """
    from modelmill.registry.models import Draft, log_models
    from modelmill.registry.signals import log_signals
    from modelmill.rules.registered import open_rule_set

    rule_set = open_rule_set(config.rule_set, context.settings)
    rows = rows_of(inputs.table, most=config.rows)
    models = pinned_signals(inputs.signals, context) if inputs.signals else {}
    deciding = prepare(rule_set, rows.schema, context.settings, models=models)
    root = context.workdir / "students"
    shutil.rmtree(root, ignore_errors=True)
    context.log(f"the models read {rows.num_rows:,} rows")
    folders = fit_students(deciding, rows, root, signals=config.signals, penalty=config.penalty)
    context.log(f"{len(folders)} students: {', '.join(folders)}")
    context.run.log_dataset(inputs.table, context="training", rows=rows.num_rows)
    found = log_models([Draft(folder) for folder in folders.values()], role="student", context=context)
    return log_signals(dict(zip(folders, found, strict=True)), context)


def fit_students(
    deciding: Deciding, rows: pa.RecordBatch, root: Path, *, signals: Sequence[str], penalty: float
) -> dict[str, Path]:
    """Fit a static student of each model signal.

    :param deciding: the rule set, with its models pinned.
    :param rows: rows with texts; labels are not needed.
    :param root: folder for the bundles; made.
    :param signals: names; empty: all that the rules compare with thresholds alone.
    :param penalty: weight of the squared norm, in units of one row.
    :return: the student's bundle by the signal's name.
    :raises ConfigError: if a signal cannot have a student, or none can.
    :raises DatasetError: if there is no row of which the models say anything.
    """
    known = with_probability(deciding.rule_set, signals)
    # What a model says is learnt, before it abstains.
    speaking = {name: one.model_copy(update={"abstain": None}) for name, one in known.items()}
    said = evaluated(deciding, replaced(deciding.rule_set, speaking), {}, rows)
    folders: dict[str, Path] = {}
    for share in _shares(said, deciding, known, signals):
        folders |= share.fit(said, root, penalty=penalty)
    return folders


@dataclass
class _Share:
    """Signals whose students have their features in common."""

    column: str
    tokenizer: Path
    """Folder with ``tokenizer.json``."""
    max_tokens: int
    labels: dict[str, str] = field(default_factory=dict)
    """The signal's class, by its name."""
    limits: dict[str, list[float]] = field(default_factory=dict)
    """Thresholds by the signal's name."""

    def fit(self, said: Evaluated, root: Path, *, penalty: float) -> dict[str, Path]:
        """Fit the students, and write a bundle of each."""
        from modelmill.compression.static import fit_static_signals
        from modelmill.serving.runtime import encode, load_tokenizer
        from modelmill.serving.static import write_static

        table = np.stack([floats(said.signals[name]) for name in self.limits], axis=1)  # (rows, signals)
        known = np.isfinite(table).all(axis=1)
        if not known.any():
            raise DatasetError(
                "students learn from rows of which the models say something",
                got=f"none with a text in {self.column!r}",
                remedy="name another table, and see that the rule set's models exist",
            )
        texts = said.rows.column(self.column).filter(pa.array(known)).to_pylist()
        targets = np.stack(
            [_passed(table[known, place], limits) for place, limits in enumerate(self.limits.values())],
            axis=1,
        )
        tokenizer = load_tokenizer(self.tokenizer, max_tokens=self.max_tokens)
        students = fit_static_signals(
            encode(tokenizer, texts), targets, vocabulary=tokenizer.get_vocab_size(), penalty=penalty
        )
        folders = {}
        for name, student in zip(self.limits, students, strict=True):
            folder = folders[name] = root / name
            folder.mkdir(parents=True)
            shutil.copyfile(self.tokenizer / "tokenizer.json", folder / "tokenizer.json")
            write_static(
                folder,
                student.tables,
                student.bias,
                label=name,
                classes=(_OTHER, self.labels[name]),
                text=self.column,
                max_tokens=self.max_tokens,
            )
        return folders


def _shares(
    said: Evaluated, deciding: Deciding, known: Mapping[str, ModelSignal], asked: Sequence[str]
) -> list[_Share]:
    """Part the signals by what their students read."""
    shares: dict[tuple[str, bytes, int], _Share] = {}
    for name in asked or [name for name in known if name in said.signals]:
        signal = known[name]
        try:
            limits = _limits(said, name, signal)
        except ConfigError:
            if asked:
                raise
            continue
        folder = deciding.pins[signal.model].bundle()
        place = trunk_folder(folder, BundleInfo.load(folder))
        tokens = BundleInfo.load(place).max_tokens
        key = (signal.column, (place / "tokenizer.json").read_bytes(), tokens)
        share = shares.setdefault(key, _Share(signal.column, place, tokens))
        share.labels[name], share.limits[name] = str(signal.label), limits
    if not shares:
        raise ConfigError(
            "a student learns which side of the rules' thresholds a model signal is on",
            got="no model signal that the rules compare with thresholds alone",
            remedy="write a rule such as spam > 0.9",
        )
    return list(shares.values())


def _limits(said: Evaluated, name: str, signal: ModelSignal) -> list[float]:
    if name not in said.signals:
        raise ConfigError("a student is of a signal that a rule reads", got=name, remedy="leave it out")
    return thresholds(said.engine, name, signal)


def _passed(values: npt.NDArray[np.float64], limits: list[float]) -> npt.NDArray[np.float64]:
    """Return the share of the thresholds that each value reaches, ``(rows,)``."""
    return np.searchsorted(limits, values, side="right") / len(limits)
