"""A model bundle as MLflow's ``python_function``: what ``load_model`` and ``mlflow models serve`` load."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from mlflow.pyfunc.model import PythonModel

from modelmill.artifacts import ContentKind, ModelRef
from modelmill.errors import ModelError
from modelmill.models.predictions import answer_text, answers_to, read_column
from modelmill.models.scorers import load_scorer
from modelmill.registry.signing import verify_digest
from modelmill.tokens.contents import CONTENTS, Content

if TYPE_CHECKING:
    from modelmill.models.scorer import Scorer

_log = logging.getLogger("modelmill")

BUNDLE = "bundle"
"""Name of the artifact that holds the bundle."""


class _NullIsNone:
    """A pandas array of plain values: null is None and not ``pandas.NA``, a number is no numpy scalar."""

    def __getitem__(self, item: Any) -> Any:
        value = super().__getitem__(item)  # type: ignore[misc]
        if value is pd.NA:
            return None
        return value.item() if isinstance(value, np.generic) else value

    def __iter__(self) -> Iterator[Any]:
        return (self[place] for place in range(len(self)))  # type: ignore[arg-type]

    def tolist(self) -> list[Any]:
        """Return the values."""
        return list(self)


class _Numbers(_NullIsNone, pd.arrays.FloatingArray):
    """Numbers."""


class _Strings(_NullIsNone, pd.arrays.StringArray):
    """Strings that MLflow's ``spark_udf`` can cast: null stays null, where pandas makes "<NA>" of it."""

    def astype(self, dtype: Any, copy: bool = True) -> Any:
        """See :meth:`pandas.api.extensions.ExtensionArray.astype`."""
        if getattr(dtype, "kind", "") == "U":
            return np.array(list(self), dtype=object)
        return super().astype(dtype, copy)


class SignalModel(PythonModel):
    """Answers one signal for each text or image."""

    scorer: Scorer
    typed: bool
    """Whether its signature says the types of answers; models of earlier versions answer with texts."""

    def load_context(self, context: Any) -> None:
        """Load the bundle, after its digest has been found unchanged.

        :param context: MLflow's: ``artifacts`` and ``model_config``.
        :raises ModelError: if the bundle is not the one that was logged.
        """
        folder, digest = Path(context.artifacts[BUNDLE]), context.model_config["digest"]
        verify_digest(folder, digest)
        self.typed = bool(context.model_config.get("typed"))
        trunk = context.model_config.get("trunk")
        self.scorer = load_scorer(_beside_trunk(folder, digest, trunk) if trunk else folder)

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> pd.DataFrame:  # noqa: ARG002 (the caller fixes the signature)
        """Answer.

        :param context: MLflow's; not used.
        :param model_input: rows with the column that the model was trained on, or with a column ``text`` (of
            images ``image``), or a plain list, which MLflow makes a column 0 of. Other columns are ignored.
            An image is its file, as bytes or in base64.
        :param params: none are known.
        :return: ``prediction`` and ``score``, see :meth:`modelmill.tasks.base.Task.answers`; null without a
            text or image, and for an image that cannot be read: one bad cell does not fail a table. How many
            there are is a warning in the log, with the reason of the first.
        :raises ModelError: if there is no such column, or anything in it but what the model reads and null.
        """
        contents = self._contents(model_input)
        readable = [None if isinstance(one, _Unreadable) else one for one in contents]
        answers, scores = answers_to(self.scorer, readable)
        self._warn(contents, answers)
        kind = self.scorer.info.task.answer_type if self.typed else "string"
        prediction: Any = pd.Series(answers, dtype=object)  # lists
        if kind == "double":
            prediction = _numbers(answers)
        elif kind == "string":
            prediction = strings(list(map(answer_text, answers)))
        return pd.DataFrame({"prediction": prediction, "score": _numbers(scores)})

    def _contents(self, model_input: pd.DataFrame) -> list[Content | _Unreadable | None]:
        info = self.scorer.info
        names: list[Any] = list(model_input.columns)
        name = 0 if 0 in names else read_column(names, info.text, info.content)
        if name is None:
            raise ModelError(
                f"the input must have a column {info.text!r} or {CONTENTS[info.content].common!r}",
                got=", ".join(map(str, names)) or "neither",
                remedy=f"rename the {info.content} column to {info.text!r}",
            )
        values = model_input[name].tolist()
        if len(values) == 1 and isinstance(values[0], list):
            # MLflow makes a single row of {"column": ["a", "b"]}, and several of {"column": ["a", None]}.
            values = values[0]
        return [_content(value, row, info.content) for row, value in enumerate(values)]

    def _warn(self, contents: Sequence[Content | _Unreadable | None], answers: Sequence[Any]) -> None:
        """Say how many images there are that cannot be read."""
        if self.scorer.info.content != "image":
            return
        unread = [row for row, one in enumerate(contents) if one and answers[row] is None]
        if unread:
            first = contents[unread[0]]
            why = first.why if isinstance(first, _Unreadable) else CONTENTS["image"].problem(first or b"")
            said = (len(unread), len(contents), unread[0], why or "the score is no finite number")
            _log.warning("%d of %d images have no answer; row %d: %s", *said)


def strings(values: Sequence[str | None]) -> pd.api.extensions.ExtensionArray:
    """Return strings as a column of an answer; null stays null in a data frame, in JSON and in Spark."""
    return _Strings(np.array([pd.NA if value is None else value for value in values], dtype=object))


def _numbers(values: Sequence[float | None]) -> _Numbers:
    numbers = np.array(values, dtype=np.float64)  # NaN for None
    return _Numbers(numbers, np.isnan(numbers))


@dataclass(frozen=True)
class _Unreadable:
    """An image in base64 that is none, and why."""

    why: str


def _content(value: Any, row: int, kind: ContentKind) -> Content | _Unreadable | None:
    if value is None or value is pd.NA or (isinstance(value, float) and value != value):  # NaN
        return None
    try:
        return CONTENTS[kind].of_json(value)
    except ValueError as error:
        if kind == "image" and isinstance(value, str):
            return _Unreadable(str(error))
        raise ModelError(
            str(error) if kind == "image" else "a text is a string or null",
            got=f"{value!r} in row {row}"[:100],
            remedy=f"send one {kind} a row",
        ) from error


def _beside_trunk(folder: Path, digest: str, trunk: Mapping[str, Any]) -> Path:
    """Put a head beside its trunk, which MLflow holds once for all heads."""
    from modelmill.registry.bundles import fetch_bundle, keep_bundle, worker_cache

    cache = worker_cache()
    fetch_bundle(ModelRef.model_validate(trunk), cache)
    place = keep_bundle(folder, digest, cache)
    verify_digest(place, digest)
    return place
