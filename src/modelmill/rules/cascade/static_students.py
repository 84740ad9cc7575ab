"""Static students of the models of a rule set.

They learn from texts without labels on which side of each threshold of the rules the model is, which is all
that a decision depends on.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from modelmill.errors import ConfigError
from modelmill.models.bundle import BundleInfo, trunk_folder
from modelmill.rules.cascade.eligible_signals import evaluated, floats, thresholds, with_probability
from modelmill.rules.evaluation.full_evaluation import FullEvaluation
from modelmill.rules.pinned_rule_set import PinnedRuleSet
from modelmill.signals.model_config import ModelSignal
from modelmill.signals.pinned_models import PinnedModel


def fit_students(
    pinned: PinnedRuleSet,
    rows: pa.RecordBatch,
    root: Path,
    *,
    signals: Sequence[str],
    penalty: float,
    log: Callable[[str], None],
) -> dict[str, Path]:
    """Fit a static student of each model signal.

    :param pinned: the rule set and its models.
    :param rows: rows with texts; labels are not needed.
    :param root: folder for the bundles, which is created.
    :param signals: names of signals; empty: all that can have a student.
    :param penalty: weight of the squared norm of the weights, in units of one row.
    :param log: gets a line for each signal that has no student.
    :return: the student's bundle by the signal's name.
    :raises ConfigError: if a named signal cannot have a student, or none can.
    """
    known = with_probability(pinned.rule_set, signals)
    # The student learns the model's probability, also where the signal abstains.
    speaking = {name: one.model_copy(update={"abstain": None}) for name, one in known.items()}
    said = evaluated(pinned, speaking, rows)
    shares: dict[tuple[str, bytes, int, bytes], _Share] = {}
    reasons = []
    for name in signals or [name for name in known if name in said.signals]:
        try:
            lesson = _lesson(name, known[name], said, pinned.pins)
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
    """What a student learns from."""

    name: str
    signal: ModelSignal
    tokenizer: Path
    """Folder with ``tokenizer.json``."""
    max_tokens: int
    known: npt.NDArray[np.bool_]
    """Rows on which the model has a probability, ``(rows,)``."""
    targets: npt.NDArray[np.float64]
    """Share of the thresholds that it reaches, for each of those rows."""

    @property
    def features(self) -> tuple[str, bytes, int, bytes]:
        """Key of the features; students with equal features are fitted together."""
        tokenizer = (self.tokenizer / "tokenizer.json").read_bytes()
        return self.signal.column, tokenizer, self.max_tokens, np.packbits(self.known).tobytes()


def _lesson(name: str, signal: ModelSignal, said: FullEvaluation, pins: Mapping[str, PinnedModel]) -> _Lesson:
    if name not in said.signals:
        raise ConfigError("a student is of a signal that a rule reads", got=name, remedy="leave it out")
    if pins[signal.model].missing:
        raise ConfigError(
            "the model of a signal must exist", got=pins[signal.model].missing, remedy="promote one"
        )
    folder = pins[signal.model].bundle()
    info = BundleInfo.load(folder)
    if info.content != "text":
        raise ConfigError(
            "a static student reads texts",
            got=f"{name}, whose model reads {info.content}s",
            remedy="leave it out",
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
    place = trunk_folder(folder, info)
    reached = np.searchsorted(limits, values[known], side="right") / len(limits)
    return _Lesson(name, signal, place, BundleInfo.load(place).max_tokens, known, reached)


@dataclass
class _Share:
    """Students with equal features."""

    first: _Lesson
    lessons: list[_Lesson] = field(default_factory=list)

    def fit(self, rows: pa.RecordBatch, root: Path, *, penalty: float) -> dict[str, Path]:
        """Fit the students, and write the bundle of each."""
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
