"""A rule set as MLflow's ``python_function``: what ``load_model`` and ``mlflow models serve`` load."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.pyfunc.model import PythonModel

from modelmill.registry.pyfunc import strings
from modelmill.registry.signing import verify_digest
from modelmill.rules.frames import decide
from modelmill.rules.lifecycle.registered_rule_sets import bundled_rule_set
from modelmill.rules.pinned_rule_set import PinnedRuleSet, pin_rule_set
from modelmill.rules.rule_set import RuleSet
from modelmill.settings import Settings


class DecisionModel(PythonModel):
    """Decides on rows."""

    rule_set: RuleSet
    pinned: PinnedRuleSet | None = None

    def load_context(self, context: Any) -> None:
        """Load the rule set, after its digest has been found unchanged.

        :param context: MLflow's: ``artifacts`` and ``model_config``.
        :raises ModelError: if the bundle is not the one that was logged.
        """
        folder = Path(context.artifacts["bundle"])
        verify_digest(folder, context.model_config["digest"])
        self.rule_set = bundled_rule_set(folder, source=str(folder))

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> pd.DataFrame:  # noqa: ARG002 (the caller fixes the signature)
        """Decide.

        :param context: MLflow's; not used.
        :param model_input: rows with the columns that the rule set reads.
        :param params: none are known.
        :return: one decision for each row, in their order.
        """
        if self.pinned is None:  # what aliases stand for is looked up once
            self.pinned = pin_rule_set(self.rule_set, Settings.from_environment())
        found = decide(self.pinned, model_input.reset_index(drop=True), explain=False)
        texts = {name: strings(found[name].tolist()) for name in found.columns if name != self.rule_set.key}
        return found.assign(**texts)
