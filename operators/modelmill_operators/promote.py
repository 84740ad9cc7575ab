"""The operator of the component ``promote``."""

from __future__ import annotations

from modelmill_operators.links import MlflowRunLink, RegisteredModelLink
from modelmill_operators.step import StepOperator


class PromoteOperator(StepOperator):
    """Register a challenger that passed the gate and make it the champion; its task links to that version."""

    component = "promote"
    operator_extra_links = (MlflowRunLink(), RegisteredModelLink())
