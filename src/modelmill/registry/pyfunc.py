"""A model bundle as MLflow's ``python_function``: what ``load_model`` and ``mlflow models serve`` load."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from mlflow.pyfunc.model import PythonModel

from modelmill.artifacts import ModelRef
from modelmill.errors import ModelError
from modelmill.models.scorers import load_scorer
from modelmill.registry.signing import verify_digest

if TYPE_CHECKING:
    from modelmill.models.scorer import Scorer

BUNDLE = "bundle"
"""Name of the artifact that holds the bundle."""


class SignalModel(PythonModel):
    """Answers one signal for each text."""

    scorer: Scorer

    def load_context(self, context: Any) -> None:
        """Load the bundle, after its digest has been found unchanged.

        :param context: MLflow's: ``artifacts`` and ``model_config``.
        :raises ModelError: if the bundle is not the one that was logged.
        """
        folder, digest = Path(context.artifacts[BUNDLE]), context.model_config["digest"]
        verify_digest(folder, digest)
        trunk = context.model_config.get("trunk")
        self.scorer = load_scorer(_beside_trunk(folder, digest, trunk) if trunk else folder)

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> pd.DataFrame:  # noqa: ARG002 (the caller fixes the signature)
        """Answer.

        :param context: MLflow's; not used.
        :param model_input: rows with the text column that the model was trained on, or with one column.
        :param params: none are known.
        :return: ``prediction`` and ``score``, see :func:`modelmill.models.predictions.answers`; None and NaN
            without a text.
        """
        texts = self._texts(model_input)
        present = [index for index, text in enumerate(texts) if isinstance(text, str) and text.strip()]
        predictions: list[str | None] = [None] * len(texts)
        scores = [float("nan")] * len(texts)
        logits = self.scorer.logits([texts[index] for index in present])  # (rows, outputs)
        for index, answer, score in zip(present, *self.scorer.info.answers(logits), strict=True):
            predictions[index], scores[index] = answer, score
        return pd.DataFrame({"prediction": pd.Series(predictions, dtype=object), "score": scores})

    def _texts(self, model_input: pd.DataFrame) -> Sequence[Any]:
        name = self.scorer.info.text
        if name not in model_input.columns and len(model_input.columns) != 1:
            raise ModelError(
                f"the input must have a column {name!r}",
                got=", ".join(map(str, model_input.columns)),
                remedy=f"rename the text column to {name!r}",
            )
        column = model_input[name] if name in model_input.columns else model_input.iloc[:, 0]
        return column.tolist()


def _beside_trunk(folder: Path, digest: str, trunk: Mapping[str, Any]) -> Path:
    """Put a head beside its trunk, which MLflow holds once for all heads."""
    from modelmill.registry.bundles import fetch_bundle, keep_bundle, worker_cache

    cache = worker_cache()
    fetch_bundle(ModelRef.model_validate(trunk), cache)
    place = keep_bundle(folder, digest, cache)
    verify_digest(place, digest)
    return place
