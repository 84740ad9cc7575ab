"""Groups of models: all signals of a text column that one pass of a trunk answers."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from modelmill.artifacts import ContentKind
from modelmill.errors import SignalError
from modelmill.models.bundle import BundleInfo
from modelmill.signals.groups import EVIDENCE, Evaluation, Mask, Rows, SignalGroup, SignalInfo, SignalValues
from modelmill.signals.joint_models import JointModels, load_models
from modelmill.signals.model_config import Band, ModelSignal
from modelmill.signals.pinned_models import PinnedModel
from modelmill.signals.values import STORED, Kind, column_kind, stored
from modelmill.tokens.contents import BLANKS, CONTENTS, image_of_base64

if TYPE_CHECKING:
    from modelmill.tasks.calibration import FloatArray


class ModelGroup(SignalGroup):
    """Signals of one column that one pass answers.

    :param name: of the group.
    :param column: the text column.
    :param signals: the signals.
    :param pins: what each model is, by the name that the rule set has for it.
    """

    def __init__(
        self, name: str, column: str, signals: Mapping[str, ModelSignal], pins: Mapping[str, PinnedModel]
    ) -> None:
        infos = {
            one: SignalInfo(
                "text" if signal.output == "label" else "float",
                " after ".join(pins[model].version for model in signal.models()),
            )
            for one, signal in signals.items()
        }
        super().__init__(name, tier="model", signals=infos, columns=(column,))
        self.column = column
        self.configs = dict(signals)
        self.pins = {one: pins[signal.model] for one, signal in signals.items()}

    @functools.cached_property
    def content(self) -> ContentKind:
        """What the models read; a missing one is taken to read texts."""
        found = (BundleInfo.load(pin.bundle()).content for pin in self.pins.values() if not pin.missing)
        return next(found, "text")

    @functools.cached_property
    def models(self) -> JointModels:
        """The models, loaded when the first row needs them."""
        return load_models(self.pins.values())

    def info(self, name: str) -> BundleInfo:
        """Return the facts of a signal's bundle."""
        return self.models.infos[self.pins[name].digest]

    def contents(self, chunk: pa.RecordBatch) -> ColumnContents:
        """Return what the models read of a chunk of rows.

        :param chunk: the rows.
        :return: texts, or the files of images. JSON has no bytes: images may also be texts in base64.
        :raises SignalError: if the column holds something else.
        """
        column = chunk.column(self.column)
        wanted, found = _STORED_AS[self.content], column_kind(column.type)
        if self.content == "image" and found == "text":
            return _images_of_texts(stored(column, "text").to_pylist())
        if found not in (wanted, "null"):
            raise SignalError(
                f"the models of {', '.join(self.configs)} read {self.content}s in {self.column!r}",
                got=f"{self.column}: {column.type}",
                remedy="name another column, or another model",
            )
        return ColumnContents(stored(column, wanted))

    def begin(self, chunk: pa.RecordBatch) -> Evaluation:
        """See :meth:`SignalGroup.begin`."""
        return ModelEvaluation(self, self.contents(chunk))


@dataclass(frozen=True)
class ColumnContents:
    """What models read of a column."""

    values: pa.Array
    """Texts, or the files of images; null where there is none, or none that can be read."""
    problems: dict[int, str] = field(default_factory=dict)
    """Why there is something in a row that cannot be read, by the row's number."""


def _images_of_texts(texts: Sequence[str | None]) -> ColumnContents:
    """Read images in base64: one that is none costs its own row, and no other."""
    images: list[bytes | None] = []
    problems: dict[int, str] = {}
    for row, text in enumerate(texts):
        try:
            images.append(image_of_base64(text))
        except ValueError as error:
            problems[row] = str(error)
            images.append(None)
    return ColumnContents(pa.array(images, STORED["bytes"]), problems)


class ModelEvaluation(Evaluation):
    """One pass answers all signals of the group: those that were not asked for are kept until they are.

    An image that cannot be decoded is unknown, with the reason.

    :param group: the group.
    :param contents: the chunk's texts, or the files of its images.
    """

    def __init__(self, group: ModelGroup, contents: ColumnContents) -> None:
        self._group = group
        self._texts = contents.values
        self._has_text = _WHERE_THERE[group.content](contents.values)
        self._problems = dict(contents.problems)
        # A text that is there can be read.
        self._looked_at = np.full(len(contents.values), group.content == "text")
        self._seen = np.zeros(len(contents.values), bool)
        self._probabilities: dict[str, npt.NDArray[np.float64]] = {}

    def compute(self, names: Sequence[str], rows: Rows) -> dict[str, SignalValues]:
        """See :meth:`Evaluation.compute`."""
        self._read(rows)
        return {name: self._values(name, rows) for name in names}

    def evidence(self, names: Sequence[str], rows: Rows) -> dict[str, pa.Array]:
        """Say where a model abstains, and why: its value is unknown there."""
        found = {}
        for name in names:
            band = self._group.configs[name].abstain
            if band is None:
                continue
            chosen, _ = self._chosen(name, rows)
            places = []
            for row, p in zip(rows, chosen, strict=True):
                said = []
                if self._has_text[row] and _within(band, p):
                    text = f"abstains: probability {p:.4f} is in the band from {band.low:g} to {band.high:g}"
                    said = [{"column": self._group.column, "text": text}]
                places.append(said)
            found[name] = pa.array(places, EVIDENCE)
        return found

    def _look_at(self, rows: Rows) -> None:
        """Find out which images cannot be decoded: each is looked at once, when it is first asked about."""
        fresh = rows[self._has_text[rows] & ~self._looked_at[rows]]
        for row in fresh.tolist():
            problem = CONTENTS[self._group.content].problem(self._texts[row].as_py())
            if problem is not None:
                self._problems[row] = problem
                self._has_text[row] = False
        self._looked_at[fresh] = True

    def _failures(self, rows: Rows) -> pa.Array | None:
        """Return why contents cannot be read; None if all can that are there."""
        if not self._problems:
            return None
        return pa.array([self._problems.get(row) for row in rows.tolist()], pa.string())

    def _read(self, rows: Rows) -> None:
        """Ask the models about the rows that have a text and have not been read."""
        self._look_at(rows)
        rows = rows[self._has_text[rows] & ~self._seen[rows]]
        if not len(rows):
            return
        encoded = self._texts.take(pa.array(rows)).dictionary_encode()
        each = encoded.indices.to_numpy()
        logits = self._group.models.logits(encoded.dictionary.to_pylist())
        for name, signal in self._group.configs.items():
            found = class_probabilities(
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
        table = self._probabilities.get(name)
        if table is None:  # no row has had a text
            return np.full(len(rows), np.nan), np.zeros(len(rows), np.int64)
        found = table[rows]
        if signal.label is None:
            best = np.argmax(np.where(np.isnan(found), -1, found), axis=1)
        else:
            best = np.full(len(rows), class_number(name, signal.label, self._group.info(name)), np.int64)
        return found[np.arange(len(rows)), best], best

    def _unknown(self, signal: ModelSignal, chosen: npt.NDArray[np.float64], rows: Rows) -> Mask:
        """Return where there is no text, or the signal abstains."""
        unknown: Mask = ~self._has_text[rows]
        return unknown if signal.abstain is None else unknown | _within(signal.abstain, chosen)

    def _values(self, name: str, rows: Rows) -> SignalValues:
        signal = self._group.configs[name]
        chosen, best = self._chosen(name, rows)
        unknown = self._unknown(signal, chosen, rows)
        failures = self._failures(rows)
        if signal.output == "probability":
            return SignalValues(pa.array(chosen, mask=unknown), failures)
        if unknown.all():
            return SignalValues(pa.nulls(len(rows), STORED["text"]), failures)
        classes = pa.array(self._group.info(name).classes, STORED["text"])
        return SignalValues(classes.take(pa.array(best, mask=unknown)), failures)


def class_probabilities(
    info: BundleInfo, logits: FloatArray, *, temperature: float
) -> npt.NDArray[np.float64]:
    """Return what a model says of each class, ``(rows, classes)``."""
    scaled = logits / np.float32(temperature)
    found: npt.NDArray[np.float64] = info.probabilities(scaled).astype(np.float64)
    return found


def class_number(signal: str, label: str, info: BundleInfo) -> int:
    """Return the number of a class.

    :param signal: the name of the signal that is about the class, for the message.
    :param label: the class.
    :param info: facts of the signal's bundle.
    :return: its place among the bundle's classes.
    :raises SignalError: if the model has no such class.
    """
    if label not in info.classes:
        raise SignalError(
            f"the label of signal {signal!r} must be a class of its model",
            got=label,
            choices=info.classes,
        )
    return info.classes.index(label)


def _within(band: Band, probability: Any) -> Any:
    return (probability >= band.low) & (probability < band.high)


def _where_text(texts: pa.Array) -> Mask:
    blank = pc.equal(pc.utf8_trim(texts, characters=BLANKS), "")
    found: Mask = ~pc.fill_null(blank, True).to_numpy(zero_copy_only=False)
    return found


def _where_image(images: pa.Array) -> Mask:
    found: Mask = pc.fill_null(pc.greater(pc.binary_length(images), 0), False).to_numpy(zero_copy_only=False)
    return np.array(found)  # one that can be written: not all that is there can be read


_WHERE_THERE: Mapping[ContentKind, Callable[[pa.Array], Mask]] = {"text": _where_text, "image": _where_image}
"""Which rows have anything that a model might read."""
_STORED_AS: Mapping[ContentKind, Kind] = {"text": "text", "image": "bytes"}
