"""Models as signals: one pass of a trunk answers all that stand on it, and equal inputs are read once.

What a model reads is token ids. Two texts with the same ids have the same answer, so a row is looked up by
its ids: that covers equal texts and those that the tokenizer makes equal (case, white space, what lies
beyond the longest input), and no others.
"""

from __future__ import annotations

import functools
import hashlib
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from modelmill.datasets.preparation import BLANKS
from modelmill.errors import SignalError, did_you_mean
from modelmill.models.bundle import BundleInfo, trunk_folder
from modelmill.rules.evaluation.possible_values import Mask
from modelmill.rules.rule_set import Band, FirstTier, ModelSignal
from modelmill.signals.columns import check_operand
from modelmill.signals.groups import (
    EVIDENCE,
    Answers,
    Evaluation,
    Rows,
    SignalGroup,
    SignalInfo,
    Site,
    evaluator,
)
from modelmill.signals.pins import Pin, pin_models
from modelmill.signals.values import STORED, Kind, stored

if TYPE_CHECKING:
    from modelmill.models.scorer import Scorer
    from modelmill.models.static import StaticStack
    from modelmill.tasks.calibration import FloatArray
    from modelmill.tokens.token_ids import Tokens

_TEXT: tuple[Kind, ...] = ("text",)
_REMEMBERED = 65_536
"""Inputs whose answers are kept from chunk to chunk."""

_loading = threading.Lock()


class Reader:
    """Bundles that one pass answers: heads on a trunk, static models with the same features, or one model.

    Loaded once for each process.

    :param bundles: folders of the bundles, by digest.
    """

    def __init__(self, bundles: Mapping[str, Path]) -> None:
        from modelmill.models.heads import load_head
        from modelmill.models.scorers import load_scorer
        from modelmill.models.static import StaticStack
        from modelmill.models.trunk import Trunk, TrunkHeads
        from modelmill.system.cpu import usable_cores
        from modelmill.tokens.tokenizer import load_tokenizer

        self.infos = {digest: BundleInfo.load(folder) for digest, folder in bundles.items()}
        first, folder = next(iter(bundles.items()))
        place = trunk_folder(folder, self.infos[first])
        self._tokenizer = load_tokenizer(place, max_tokens=BundleInfo.load(place).max_tokens)
        self._scorer: Scorer | StaticStack | None = None
        if len(bundles) > 1 and self.infos[first].format == "static":
            self._scorer = StaticStack([(bundles[digest], info) for digest, info in self.infos.items()])
        elif self.infos[first].trunk is None:
            self._scorer = load_scorer(folder)
        else:
            heads = {
                digest: (self.infos[digest], load_head(one, self.infos[digest]))
                for digest, one in bundles.items()
            }
            self._heads = TrunkHeads(Trunk(place, threads=usable_cores()), heads)
        ends = np.cumsum([info.outputs for info in self.infos.values()])
        self._columns = {
            name: slice(int(end) - info.outputs, int(end))
            for (name, info), end in zip(self.infos.items(), ends, strict=True)
        }
        self._known: OrderedDict[bytes, FloatArray] = OrderedDict()
        self._lock = threading.Lock()
        self.rows_read = 0
        """Rows that a model has really read."""

    def logits(self, texts: Sequence[str]) -> dict[str, FloatArray]:
        """Return what every bundle says of texts.

        :param texts: any number of texts.
        :return: by the bundle's digest, ``(rows, outputs)`` each.
        """
        from modelmill.tokens.tokenizer import encode

        tokens = encode(self._tokenizer, texts)
        keys = [hashlib.blake2b(ids.tobytes(), digest_size=16).digest() for ids in tokens]
        with self._lock:
            known = {key: self._known[key] for key in keys if key in self._known}
        fresh = {key: row for row, key in reversed(list(enumerate(keys))) if key not in known}
        if fresh:
            places = np.array(list(fresh.values()), np.int64)
            known |= dict(zip(fresh, self._read(tokens.take(places)), strict=True))
        self._remember(known)
        table = np.stack([known[key] for key in keys])  # (rows, outputs of all bundles)
        return {name: table[:, columns] for name, columns in self._columns.items()}

    def forget(self) -> None:
        """Forget what has been read: for measurements, in which a repeated text must not be free."""
        with self._lock:
            self._known.clear()

    def _read(self, tokens: Tokens) -> FloatArray:
        self.rows_read += len(tokens)
        if self._scorer is not None:
            found: FloatArray = self._scorer.score(tokens)
            return found
        scores = self._heads.score(tokens)
        return np.concatenate([scores[name] for name in self._columns], axis=1)

    def _remember(self, known: Mapping[bytes, FloatArray]) -> None:
        with self._lock:
            for key, values in known.items():
                self._known[key] = values
                self._known.move_to_end(key)
            while len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)


@functools.lru_cache(maxsize=64)
def _loaded(bundles: tuple[tuple[str, Path], ...]) -> Reader:
    return Reader(dict(bundles))


def _reader(pins: Iterable[Pin]) -> Reader:
    bundles = {pin.digest: pin.bundle() for pin in pins}
    with _loading:
        return _loaded(tuple(bundles.items()))


def models_of(signal: ModelSignal) -> list[str]:
    """Return the names of the models of a signal: its own, and the cheap one that is asked first."""
    return [signal.model, *([signal.first.model] if signal.first else [])]


class ModelGroup(SignalGroup):
    """Signals of one column that one pass answers.

    :param name: of the group.
    :param column: the text column.
    :param signals: the signals.
    :param pins: what each model is, by the name that the rule set has for it.
    """

    def __init__(
        self, name: str, column: str, signals: Mapping[str, ModelSignal], pins: Mapping[str, Pin]
    ) -> None:
        infos = {
            one: SignalInfo(
                "text" if signal.output == "label" else "float",
                " after ".join(pins[model].version for model in models_of(signal)),
            )
            for one, signal in signals.items()
        }
        quick = any(signal.first for signal in signals.values())
        super().__init__(name, tier="model", signals=infos, columns=(column,), has_quick=quick)
        self.column = column
        self.configs = dict(signals)
        self.pins = {one: pins[signal.model] for one, signal in signals.items()}
        self._first = {one: pins[signal.first.model] for one, signal in signals.items() if signal.first}

    @functools.cached_property
    def reader(self) -> Reader:
        """The models, loaded when the first row needs them."""
        return _reader(self.pins.values())

    @functools.cached_property
    def first_tier(self) -> list[tuple[Reader, dict[str, str]]]:
        """The cheap models: what reads, and the digest of each signal's bundle there."""
        shares: dict[str, dict[str, Pin]] = {}
        for name, pin in self._first.items():
            shares.setdefault(_pass_of(pin), {})[name] = pin
        return [
            (_reader(share.values()), {name: pin.digest for name, pin in share.items()})
            for share in shares.values()
        ]

    def info(self, name: str) -> BundleInfo:
        """Return what the bundle of a signal says of itself.

        :param name: the signal.
        :return: its bundle's facts.
        """
        return self.reader.infos[self.pins[name].digest]

    def begin(self, chunk: pa.RecordBatch) -> Evaluation:
        """See :meth:`SignalGroup.begin`.

        :param chunk: the rows.
        :return: the evaluation.
        """
        return _ModelEvaluation(self, stored(chunk.column(self.column), "text"))


class _ModelEvaluation(Evaluation):
    """One pass answers all signals of the group: those that were not asked for are kept until they are."""

    def __init__(self, group: ModelGroup, texts: pa.Array) -> None:
        self._group = group
        self._texts = texts
        blank = pc.equal(pc.utf8_trim(texts, characters=BLANKS), "")
        self._has_text = ~pc.fill_null(blank, True).to_numpy(zero_copy_only=False)
        self._seen = np.zeros(len(texts), bool)
        self._seen_first = np.zeros(len(texts), bool)
        self._probabilities: dict[str, npt.NDArray[np.float64]] = {}
        self._sure: dict[str, npt.NDArray[np.float64]] = {}
        """What cheap models tell of the rows that they settle; NaN elsewhere, ``(rows,)`` each."""

    def compute(self, names: Sequence[str], rows: Rows) -> dict[str, Answers]:
        self._read_first(rows[self._has_text[rows] & ~self._seen_first[rows]])
        # The whole model reads a row if one of the signals that are asked for needs it.
        needed = np.zeros(len(rows), bool)
        for name in names:
            sure = self._sure.get(name)
            needed |= True if sure is None else np.isnan(sure[rows])
        self._read(rows[needed & self._has_text[rows] & ~self._seen[rows]])
        return {name: self._answers(name, rows) for name in names}

    def quick(self, names: Sequence[str], rows: Rows) -> dict[str, Answers]:
        """Tell what the cheap models are sure of."""
        self._read_first(rows[self._has_text[rows] & ~self._seen_first[rows]])
        return {name: self._told(name, rows) for name in names}

    def _told(self, name: str, rows: Rows) -> Answers:
        signal, sure = self._group.configs[name], self._sure.get(name)
        if sure is None:
            kind = self._group.signals[name].kind
            return Answers(pa.nulls(len(rows), STORED[kind]), open=self._has_text[rows])
        unclear = np.isnan(sure[rows])
        values = pa.array(sure[rows], mask=unclear | self._unknown(signal, sure[rows], rows))
        return Answers(values, open=unclear & self._has_text[rows])

    def evidence(self, names: Sequence[str], rows: Rows) -> dict[str, pa.Array]:
        """Say where a model abstains, and why: its value is unknown there."""
        found = {}
        for name in names:
            band = self._group.configs[name].abstain
            chosen, _ = self._chosen(name, rows)
            places = []
            for row, p in zip(rows, chosen, strict=True):
                said = []
                if band is not None and self._has_text[row] and _within(band, p):
                    text = f"abstains: probability {p:.4f} is in the band from {band.low:g} to {band.high:g}"
                    said = [{"column": self._group.column, "text": text}]
                places.append(said)
            found[name] = pa.array(places, EVIDENCE)
        return found

    def _read_first(self, rows: Rows) -> None:
        if not len(rows) or not self._group.first_tier:
            return
        encoded = self._texts.take(pa.array(rows)).dictionary_encode()
        each, texts = encoded.indices.to_numpy(), encoded.dictionary.to_pylist()
        for reader, digests in self._group.first_tier:
            logits = reader.logits(texts)
            for name, digest in digests.items():
                signal, info = self._group.configs[name], reader.infos[digest]
                found = _probabilities(info, logits[digest], temperature=1.0)
                p = found[each, _place(name, signal.label or "", info)]
                if signal.first is not None:
                    p = sure_values(signal.first, p)
                self._sure.setdefault(name, np.full(len(self._texts), np.nan))[rows] = p
        self._seen_first[rows] = True
        # The model itself answers every signal of a row that it reads: what cheap models would get wrong
        # there is nobody's gain.
        left = rows[~self._group.settled_by({name: self._told(name, rows) for name in self._group.configs})]
        for p in self._sure.values():
            p[left] = np.nan

    def _read(self, rows: Rows) -> None:
        if not len(rows):
            return
        encoded = self._texts.take(pa.array(rows)).dictionary_encode()
        each = encoded.indices.to_numpy()
        logits = self._group.reader.logits(encoded.dictionary.to_pylist())
        for name, signal in self._group.configs.items():
            found = _probabilities(
                self._group.info(name),
                logits[self._group.pins[name].digest],
                temperature=signal.calibration.temperature,
            )
            shape = (len(self._texts), found.shape[1])
            table = self._probabilities.setdefault(name, np.full(shape, np.nan))  # (rows, classes)
            table[rows] = found[each]
        self._seen[rows] = True

    def _chosen(self, name: str, rows: Rows) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
        """Return the probability that the signal is about, and the number of its class, for each row."""
        signal = self._group.configs[name]
        if name in self._sure:
            sure = self._sure[name][rows]
            if name not in self._probabilities:  # the cheap model was sure of every row
                return sure, np.zeros(len(rows), np.int64)
            column = _place(name, signal.label or "", self._group.info(name))
            own = self._probabilities[name][rows, column]
            return np.where(np.isnan(sure), own, sure), np.full(len(rows), column, np.int64)
        table = self._probabilities.get(name)
        if table is None:  # no row has had a text
            return np.full(len(rows), np.nan), np.zeros(len(rows), np.int64)
        found = table[rows]
        if signal.label is None:
            best = np.argmax(np.where(np.isnan(found), -1, found), axis=1)
        else:
            best = np.full(len(rows), _place(name, signal.label, self._group.info(name)), np.int64)
        return found[np.arange(len(rows)), best], best

    def _unknown(self, signal: ModelSignal, chosen: npt.NDArray[np.float64], rows: Rows) -> Mask:
        """Return where there is no text, or the signal abstains."""
        unknown: Mask = ~self._has_text[rows]
        return unknown if signal.abstain is None else unknown | _within(signal.abstain, chosen)

    def _answers(self, name: str, rows: Rows) -> Answers:
        signal = self._group.configs[name]
        chosen, best = self._chosen(name, rows)
        unknown = self._unknown(signal, chosen, rows)
        if signal.output == "probability":
            return Answers(pa.array(chosen, mask=unknown))
        if unknown.all():
            return Answers(pa.nulls(len(rows), STORED["text"]))
        named = pa.array(self._group.info(name).classes, STORED["text"]).take(pa.array(best, mask=unknown))
        return Answers(named)


def _pass_of(pin: Pin) -> str:
    """Return what models have in common that one pass answers."""
    from modelmill.models.static import features_digest

    info = BundleInfo.load(pin.bundle())
    if info.format == "static":
        return features_digest(pin.bundle(), info)
    return info.trunk or pin.digest


def sure_values(first: FirstTier, probability: Any) -> Any:
    """Return what a cheap model tells of a signal.

    :param first: the cheap model, and where it is in doubt.
    :param probability: what it says, ``(rows,)``.
    :return: a value on the side of each threshold that it is sure of, the nearest to its own; NaN where it is
        not sure of one. ``(rows,)``.
    """
    low, high = np.zeros(np.shape(probability)), np.ones(np.shape(probability))
    told = ~np.isnan(probability)
    for doubt in first.doubts:
        above = (probability >= doubt.high) & (doubt.high < 1)
        told &= above | (probability < doubt.low)
        low = np.where(above, np.nextafter(doubt.threshold, 2.0), low)
        high = np.where(above, high, np.minimum(high, np.nextafter(doubt.threshold, -1.0)))
    return np.where(told & (low <= high), np.clip(probability, low, high), np.nan)


def _within(band: Band, probability: Any) -> Any:
    return (probability >= band.low) & (probability < band.high)


def _probabilities(info: BundleInfo, logits: FloatArray, *, temperature: float) -> npt.NDArray[np.float64]:
    scaled = logits / np.float32(temperature)
    found: npt.NDArray[np.float64] = info.probabilities(scaled).astype(np.float64)
    return found


def _place(name: str, label: str, info: BundleInfo) -> int:
    if label not in info.classes:
        raise SignalError(
            f"the label of signal {name!r} must be a class of its model",
            got=label,
            remedy=did_you_mean(label, info.classes),
        )
    return info.classes.index(label)


@evaluator(ModelSignal)
def model_groups(signals: Mapping[str, ModelSignal], site: Site) -> list[SignalGroup]:
    """Make a group of the models on each trunk and column, and of each other model.

    :param signals: the signals.
    :param site: the input's columns, and the models that have been pinned for the run.
    :return: the groups.
    :raises SignalError: if a column holds no text, or a model has no such class.
    """
    for name, signal in signals.items():
        check_operand(name, signal.column, _TEXT, site.schema)
    named = [model for signal in signals.values() for model in models_of(signal)]
    unpinned = [model for model in named if model not in site.pins]
    pins = {**pin_models(unpinned, site.settings), **site.pins}
    shares: dict[tuple[str, str], dict[str, ModelSignal]] = {}
    for name, signal in signals.items():
        shares.setdefault((_shared(name, signal, pins), signal.column), {})[name] = signal
    return [
        ModelGroup(f"{what} on {column}", column, share, pins) for (what, column), share in shares.items()
    ]


def _shared(name: str, signal: ModelSignal, pins: Mapping[str, Pin]) -> str:
    """Return the name of what answers a signal: signals with the same name share a pass."""
    found: list[BundleInfo] = []
    for model in models_of(signal):
        if pins[model].missing:
            return f"no model for {name}"
        info = BundleInfo.load(pins[model].bundle())
        if info.target != "class":
            raise SignalError(
                f"the model of signal {name!r} must answer with one class",
                got=f"{model}, of kind {info.target}",
                remedy="name another model",
            )
        if signal.label is not None:
            _place(name, signal.label, info)
        found.append(info)
    trunk = found[0].trunk
    return f"trunk {trunk[:12]}" if trunk else f"model {pins[signal.model].digest[:12]}"
