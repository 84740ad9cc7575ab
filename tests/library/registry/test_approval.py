"""A person's answer becomes part of the verdict; where nobody can be asked, the configuration answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from modelmill.artifacts import ModelRef, VerdictRef
from modelmill.component import StepContext
from modelmill.registry import promotion
from modelmill.registry.approval import answered
from modelmill.registry.ledger import entries
from modelmill.steps.approve import ApproveConfig, ApproveInputs, approve

Accepted = Callable[..., VerdictRef]
Propose = Callable[..., ModelRef]


def test_an_approval_and_a_rejection_say_who_and_why(propose: Propose, accepted: Accepted) -> None:
    verdict = accepted(propose("good"))
    yes = answered(verdict, approved=True, who="ada", why=" looks\nright ")
    assert (yes.passed, yes.approved_by) == (True, "ada: looks right")
    no = answered(verdict, approved=False, who="ada", why="")
    assert (no.passed, no.reasons) == (False, ("rejected by ada: no reason given",))


@pytest.mark.parametrize("answer", ["reject", "approve"])
def test_without_airflow_the_configuration_answers_and_says_so(
    propose: Propose, accepted: Accepted, step_context: StepContext, answer: str
) -> None:
    said: list[str] = []
    config = ApproveConfig.model_validate({"without_airflow": answer})
    inputs = ApproveInputs(verdict=accepted(propose("good")))
    verdict = approve.run(config, inputs, replace(step_context, log=said.append)).verdict
    assert verdict.passed == (answer == "approve")
    assert "nobody can be asked outside Airflow" in said[0]


def test_a_refused_or_unchanged_challenger_is_not_asked_about(
    propose: Propose, judged: Accepted, accepted: Accepted, step_context: StepContext, next_step: Accepted
) -> None:
    model = propose("good")
    promotion.promote(accepted(model), step_context)
    for verdict in (judged(model), judged(propose("bad", skill=-1.0))):
        inputs = ApproveInputs(verdict=verdict)
        assert approve.run(ApproveConfig(), inputs, step_context).verdict == verdict


def test_a_rejection_is_a_refusal_in_the_ledger(
    propose: Propose, accepted: Accepted, step_context: StepContext, next_step: Callable[[str], StepContext]
) -> None:
    first = promotion.promote(accepted(propose("good")), step_context)
    verdict = answered(accepted(propose("same", tweak=0.001)), approved=False, who="ada", why="not today")
    assert promotion.promote(verdict, next_step("b")) == first
    row = entries(step_context.settings)[-1]
    assert (row.action, row.reasons) == ("refuse", ("rejected by ada: not today",))
