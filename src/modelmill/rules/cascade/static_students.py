"""Static students of the models of a rule set: they learn, of texts without labels, which side of the rules'
thresholds the models put each on. That is all a decision depends on.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from modelmill.artifacts import SignalsRef
from modelmill.errors import ConfigError
from modelmill.models.bundle import BundleInfo, trunk_folder
from modelmill.rules.cascade.eligible_signals import evaluated, floats, replaced, thresholds, with_probability
from modelmill.rules.evaluation.full_evaluation import FullEvaluation
from modelmill.rules.lifecycle.table_decisions import Deciding, pinned_signals, prepare, rows_of
from modelmill.signals.model_config import ModelSignal
from modelmill.signals.pins import Pin

if TYPE_CHECKING:
    from modelmill.component import StepContext
    from modelmill.steps.ports import TrialInputs
    from modelmill.steps.signal_students import SignalStudentsConfig


def run(config: SignalStudentsConfig, inputs: TrialInputs, context: StepContext) -> SignalsRef:
    """Fit a static student of each model signal, and log them.

    :param config: the step's configuration.
    :param inputs: rows with texts, and models of earlier steps.
    :param context: the step's context.
    :return: the students, by the signal's name.
    :raises RuleSetError: if the rule set breaks a rule; all problems are listed.
    :raises ConfigError: if a signal that was asked for cannot have a student, or none can.
    """
    from modelmill.registry.bundles import Draft, log_models
    from modelmill.registry.signal_models import log_signals
    from modelmill.rules.lifecycle.registered_rule_sets import open_rule_set

    rule_set = open_rule_set(config.rule_set, context.settings)
    rows = rows_of(inputs.table, most=config.rows)
    models = pinned_signals(inputs.signals, context) if inputs.signals else {}
    deciding = prepare(rule_set, rows.schema, context.settings, models=models)
    root = context.workdir / "students"
    shutil.rmtree(root, ignore_errors=True)
    context.log(f"the models read {rows.num_rows:,} rows")
    folders = fit_students(
        deciding, rows, root, signals=config.signals, penalty=config.penalty, log=context.log
    )
    context.log(f"{len(folders)} students: {', '.join(folders)}")
    context.run.log_dataset(inputs.table, context="training", rows=rows.num_rows)
    found = log_models([Draft(folder) for folder in folders.values()], role="student", context=context)
    return log_signals(dict(zip(folders, found, strict=True)), context)


def fit_students(
    deciding: Deciding,
    rows: pa.RecordBatch,
    root: Path,
    *,
    signals: Sequence[str],
    penalty: float,
    log: Callable[[str], None],
) -> dict[str, Path]:
    """Fit a static student of each model signal.

    :param deciding: the rule set, with its models pinned.
    :param rows: rows with texts; labels are not needed.
    :param root: folder for the bundles; made.
    :param signals: names; empty: all that can have one.
    :param penalty: weight of the squared norm, in units of one row.
    :param log: is told which signals have none, and why.
    :return: the student's bundle by the signal's name.
    :raises ConfigError: if a signal that was asked for cannot have a student, or none can.
    """
    known = with_probability(deciding.rule_set, signals)
    # What a model says is learnt, before it abstains.
    speaking = {name: one.model_copy(update={"abstain": None}) for name, one in known.items()}
    said = evaluated(deciding, replaced(deciding.rule_set, speaking), {}, rows)
    shares: dict[tuple[str, bytes, int, bytes], _Share] = {}
    reasons = []
    for name in signals or [name for name in known if name in said.signals]:
        try:
            lesson = _lesson(name, known[name], said, deciding.pins)
        except ConfigError as reason:
            if signals:
                raise
            reasons.append(f"{name}: {reason}")
            log(f"no student of {reasons[-1]}")
            continue
        shares.setdefault(lesson.features, _Share(lesson)).lessons.append(lesson)
    if not shares:
        raise ConfigError(
            "a rule set must have a model signal that can have a student",
            got="; ".join(reasons) or "no rule that reads one with a probability",
            remedy="write a rule such as spam > 0.9",
        )
    folders: dict[str, Path] = {}
    for share in shares.values():
        folders |= share.fit(said.rows, root, penalty=penalty)
    return {name: folders[name] for name in known if name in folders}


@dataclass(frozen=True)
class _Lesson:
    """What a student learns."""

    name: str
    signal: ModelSignal
    tokenizer: Path
    """Folder with ``tokenizer.json``."""
    max_tokens: int
    known: npt.NDArray[np.bool_]
    """Rows of which the model says something, ``(rows,)``."""
    targets: npt.NDArray[np.float64]
    """Share of the thresholds that its probability reaches, of those rows."""

    @property
    def features(self) -> tuple[str, bytes, int, bytes]:
        """Students with the same ones are fitted together."""
        tokenizer = (self.tokenizer / "tokenizer.json").read_bytes()
        return self.signal.column, tokenizer, self.max_tokens, np.packbits(self.known).tobytes()


def _lesson(name: str, signal: ModelSignal, said: FullEvaluation, pins: Mapping[str, Pin]) -> _Lesson:
    if name not in said.signals:
        raise ConfigError("a student is of a signal that a rule reads", got=name, remedy="leave it out")
    if pins[signal.model].missing:
        raise ConfigError(
            "the model of a signal must exist", got=pins[signal.model].missing, remedy="promote one"
        )
    limits = thresholds(said.program, name, signal)
    values = floats(said.signals[name])
    known = np.isfinite(values)
    if not known.any():
        raise ConfigError(
            "a student learns from rows of which the model says something",
            got=f"none with a text in {signal.column!r}",
            remedy="name a table that has some",
        )
    folder = pins[signal.model].bundle()
    place = trunk_folder(folder, BundleInfo.load(folder))
    reached = np.searchsorted(limits, values[known], side="right") / len(limits)
    return _Lesson(name, signal, place, BundleInfo.load(place).max_tokens, known, reached)


@dataclass
class _Share:
    """Students that have their features in common."""

    first: _Lesson
    lessons: list[_Lesson] = field(default_factory=list)

    def fit(self, rows: pa.RecordBatch, root: Path, *, penalty: float) -> dict[str, Path]:
        """Fit the students, and write a bundle of each."""
        from modelmill.compression.static import fit_static_signals
        from modelmill.models.static import write_static
        from modelmill.tokens.tokenizer import encode, load_tokenizer

        first = self.first
        texts = rows.column(first.signal.column).filter(pa.array(first.known)).to_pylist()
        tokenizer = load_tokenizer(first.tokenizer, max_tokens=first.max_tokens)
        students = fit_static_signals(
            encode(tokenizer, texts),
            np.stack([lesson.targets for lesson in self.lessons], axis=1),
            vocabulary=tokenizer.get_vocab_size(),
            penalty=penalty,
        )
        folders = {}
        for lesson, student in zip(self.lessons, students, strict=True):
            folder = folders[lesson.name] = root / lesson.name
            folder.mkdir(parents=True)
            shutil.copyfile(first.tokenizer / "tokenizer.json", folder / "tokenizer.json")
            write_static(
                folder,
                student.tables,
                student.bias,
                label=lesson.name,
                classes=(f"not {lesson.signal.label}", str(lesson.signal.label)),
                text=first.signal.column,
                max_tokens=first.max_tokens,
            )
        return folders
