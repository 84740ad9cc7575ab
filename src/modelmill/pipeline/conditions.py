"""Conditions of steps: what a gate's verdict has to be for a step to run."""

from __future__ import annotations

from modelmill.artifacts import VerdictRef
from modelmill.component import AnyComponent
from modelmill.pipeline.spec import Outcome


def verdict_port(component: AnyComponent) -> str:
    """Return the output port that carries a component's verdict; empty: it gives none."""
    ports = component.output_ports.values()
    return next((port.name for port in ports if issubclass(port.type, VerdictRef)), "")


def unmet(wanted: Outcome, verdict: VerdictRef) -> str | None:
    """Return why a step is skipped.

    :param wanted: what the verdict has to be.
    :param verdict: what the gate said.
    :return: the reason in one line; None: the condition holds.
    """
    said: Outcome = "accepted" if verdict.passed else "refused"
    return None if said == wanted else f"{verdict.name} was {said}, and this step runs if it is {wanted}"
