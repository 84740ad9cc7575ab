"""A rule set with all that a run of it needs: the models it reads, looked up once, and the plan."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Self

import pyarrow as pa

from modelmill.artifacts import SignalsRef
from modelmill.errors import ConfigError
from modelmill.options import Options
from modelmill.rules.engine import Engine
from modelmill.rules.planning.plan import EvaluationPlan
from modelmill.rules.rule_set import RuleSet
from modelmill.settings import Settings
from modelmill.signals.pinned_models import PinnedModel, pin_models

STEP_MODEL = "signals:"
"""Prefix of the name of a model that an earlier step made, such as ``signals:spam``."""


class PinnedRuleSet(Options):
    """A rule set whose models have been looked up: workers that get it look up nothing themselves."""

    rule_set: RuleSet
    pins: dict[str, PinnedModel]
    """The models, by the name that the rule set has for them; further ones do no harm."""
    plan: EvaluationPlan | None = None

    def engine(self, schema: pa.Schema, settings: Settings | None = None) -> Engine:
        """Return an engine with the pinned models and the plan.

        :param schema: columns of the rows.
        :param settings: where the caches are; None for the environment's.
        :return: the engine.
        :raises ModelmillError: see :class:`~modelmill.rules.engine.Engine`.
        """
        return Engine(self.rule_set, schema, settings=settings, pins=self.pins, plan=self.plan)

    def with_rule_set(self, rule_set: RuleSet) -> Self:
        """Return another rule set with the same models, and without a plan."""
        return self.model_copy(update={"rule_set": rule_set, "plan": None})


def pin_rule_set(
    rule_set: RuleSet, settings: Settings, *, models: Mapping[str, PinnedModel] | None = None
) -> PinnedRuleSet:
    """Look up the models of a rule set.

    :param rule_set: the rule set.
    :param settings: where MLflow and the caches are.
    :param models: models of an earlier step, by the NAME that follows ``signals:`` in the rule set.
    :return: the rule set with its models.
    :raises ConfigError: if a model of an earlier step is missing.
    :raises TransientError: if MLflow does not answer.
    """
    names = rule_set.models
    earlier = {f"{STEP_MODEL}{name}": pin for name, pin in (models or {}).items()}
    unknown = [name for name in names if name.startswith(STEP_MODEL) and name not in earlier]
    if unknown:
        raise ConfigError(
            "signals:NAME stands for a model of the step at the input port signals",
            got=", ".join(unknown),
            remedy=f"it has {', '.join(sorted(earlier)) or 'none: connect the port'}",
        )
    looked_up = pin_models([name for name in names if name not in earlier], settings)
    return PinnedRuleSet(rule_set=rule_set, pins={name: (earlier | looked_up)[name] for name in names})


def pin_step_models(signals: SignalsRef | None, cache: Path) -> dict[str, PinnedModel]:
    """Bring the models that an earlier step made to this machine.

    :param signals: the models; None for none.
    :param cache: folder for their bundles.
    :return: by the signal's name, see :func:`pin_rule_set`.
    """
    from modelmill.registry.bundles import fetch_bundle
    from modelmill.registry.signal_models import read_signals

    return {
        name: PinnedModel(model=model, folder=str(fetch_bundle(model, cache)), digest=model.digest)
        for name, model in (read_signals(signals) if signals else {}).items()
    }
