"""What a promotion leaves: its row, the version's card, the run's tags, its lines; what its errors say."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from modelmill.artifacts import ModelRef, VerdictRef
from modelmill.component import StepContext
from modelmill.errors import GateError, ModelError
from modelmill.registry import champion, promotion
from modelmill.registry.ledger import entries
from modelmill.system.locks import is_held

Propose = Callable[..., ModelRef]
Accepted = Callable[..., VerdictRef]
NextStep = Callable[[str], StepContext]


def written(context: StepContext) -> list[dict[str, Any]]:
    """The ledger's rows, without what differs each time."""
    return [row.model_dump(exclude={"time", "seal", "who"}) for row in entries(context.settings)]


def test_what_promotions_and_refusals_leave_behind(
    propose: Propose, accepted: Accepted, next_step: NextStep, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []

    def step(key: str) -> StepContext:
        return replace(next_step(key), log=lines.append, pipeline="nightly")

    first = step("k1")
    client, home = first.run.client, first.settings.home
    held: list[bool | None] = []
    verify = promotion.verify_stored

    def look(model: ModelRef) -> None:
        held.append(is_held(home / "locks" / "topics.lock"))
        verify(model)

    monkeypatch.setattr(promotion, "verify_stored", look)
    model = propose("good")
    said = {"summary": "**Good** enough.", "approved_by": "Ada: fine", "reasons": ("one", "two")}
    verdict = accepted(model, **said)
    assert promotion.champion("topics", client) is None
    made = promotion.promote(verdict, first)
    assert held == [True], "processes of one machine take turns"
    assert promotion.champion("topics", client) == made
    assert (made.uri, made.digest, made.run_id) == ("models:/topics/1", model.digest, model.run_id)
    row = {
        "action": "promote",
        "model": "topics",
        "from_version": None,
        "to_version": 1,
        "digest": model.digest,
        "reasons": ("one", "two", "approved by Ada: fine"),
        "evidence": verdict.uri,
        "pipeline": "nightly",
        "run_id": first.run.run_id,
        "step_key": "k1",
        "number": 1,
    }
    assert written(first) == [row]
    version = client.get_model_version("topics", "1")
    assert version.description == "**Good** enough."
    assert version.tags["modelmill.verdict"] == verdict.uri
    tags = client.get_run(first.run.run_id).data.tags
    assert (tags["modelmill.model_name"], tags["modelmill.model_version"]) == ("topics", "1")
    assert lines == ["topics: version 1 is champion"]

    lines.clear()
    assert promotion.promote(verdict, first) == made
    assert lines == ["topics: an earlier attempt made version 1 champion"]
    lines.clear()
    second = step("k2")
    assert promotion.promote(accepted(model, passed=True), second) == made
    assert lines == ["topics: version 1 is champion already, and stays it"]
    assert written(first) == [row]
    assert client.get_run(second.run.run_id).data.tags["modelmill.model_version"] == "1"

    lines.clear()
    other = propose("other", tweak=0.001)
    third = step("k3")
    no = accepted(other, passed=False, reasons=("too bad", "too slow"))
    assert promotion.promote(no, third) == made
    assert lines == ["topics: the challenger is refused (too bad; too slow); version 1 stays champion"]
    changed = {
        "action": "refuse",
        "from_version": 1,
        "digest": other.digest,
        "reasons": ("too bad", "too slow"),
        "run_id": third.run.run_id,
        "step_key": "k3",
        "number": 2,
    }
    assert written(first) == [row, {**row, **changed}]


@pytest.mark.parametrize("passed", [True, False])
def test_an_earlier_attempt_of_ones_own_is_not_waited_for(
    propose: Propose,
    accepted: Accepted,
    next_step: NextStep,
    promoted: Callable[[int], ModelRef],
    monkeypatch: pytest.MonkeyPatch,
    passed: bool,
) -> None:
    """Anybody else waits half a minute before finishing what another process has left half-done."""
    promoted(1)
    step = next_step("k")
    verdict = accepted(propose("good", tweak=0.5), passed=passed)

    class Died(BaseException):
        pass

    def die(*_: object) -> None:
        raise Died

    with monkeypatch.context() as patch:
        patch.setattr(champion, "set_alias", die)
        with contextlib.suppress(Died):
            promotion.promote(verdict, step)
    monkeypatch.setattr(champion, "time", SimpleNamespace(monotonic=time.monotonic, sleep=die))
    made = promotion.promote(verdict, step)
    assert made.uri == ("models:/topics/2" if passed else "models:/topics/1")
    assert [row["step_key"] for row in written(step)] == ["promote-1", "k"]


def test_a_first_challenger_that_is_refused_is_told_with_the_report(
    propose: Propose, accepted: Accepted, step_context: StepContext
) -> None:
    lines: list[str] = []
    model = propose("bad")
    verdict = accepted(model, passed=False, reasons=("too bad", "too slow"))
    with pytest.raises(GateError) as caught:
        promotion.promote(verdict, replace(step_context, log=lines.append))
    assert str(caught.value) == (
        f"the first champion of topics must pass the gate (too bad; too slow); got '{model.uri}'; "
        f"see the report {verdict.uri}"
    )
    assert lines == ["topics: the challenger is refused (too bad; too slow); there is no champion"]
    (row,) = written(step_context)
    assert (row["action"], row["from_version"], row["to_version"]) == ("refuse", None, None)


def test_a_champion_that_was_moved_by_hand_stops_a_promotion_and_is_written_down(
    propose: Propose, accepted: Accepted, next_step: NextStep, promoted: Callable[[int], ModelRef]
) -> None:
    promoted(1)
    promoted(2)
    lines: list[str] = []
    step = replace(next_step("k"), log=lines.append)
    verdict = accepted(propose("good", tweak=0.5))
    step.run.client.set_registered_model_alias("topics", "champion", "1")
    with pytest.raises(promotion.StaleVerdictError) as caught:
        promotion.promote(verdict, step)
    assert str(caught.value) == (
        "the champion of topics must be the one that the gate compared with, version 2; got 1; "
        "somebody has moved it meanwhile: run the gate again"
    )
    assert lines == ["topics: the alias champion was moved without the gate, to version 1"]
    assert len(step.run.client.search_model_versions("name = 'topics'")) == 2


def test_a_champion_that_changes_while_a_challenger_is_registered_stops_it(
    propose: Propose,
    accepted: Accepted,
    next_step: NextStep,
    promoted: Callable[[int], ModelRef],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On another machine, which takes no turns with this one."""
    promoted(1)
    promoted(2)
    step = next_step("k")
    verdict = accepted(propose("good", tweak=0.5))
    verify = promotion.verify_stored

    def meanwhile(model: ModelRef) -> None:
        verify(model)
        step.run.client.set_registered_model_alias("topics", "champion", "1")

    monkeypatch.setattr(promotion, "verify_stored", meanwhile)
    with pytest.raises(promotion.StaleVerdictError, match="version 2; got 1"):
        promotion.promote(verdict, step)
    assert promotion.champion_version("topics", step.settings) == 1


def test_a_challenger_without_lineage_is_not_promoted(
    propose: Propose, accepted: Accepted, step_context: StepContext
) -> None:
    model = propose("good")
    tags = ("modelmill.dataset", "modelmill.recipe_hash")
    for tag in tags:
        step_context.run.client.delete_logged_model_tag(model.uri.removeprefix("models:/"), tag)
    with pytest.raises(GateError) as caught:
        promotion.promote(accepted(model), step_context)
    assert str(caught.value) == (
        "a model that is promoted must carry its lineage; missing: dataset it was trained or checked on "
        f"(tag {tags[0]}), recipe it was made by (tag {tags[1]}); got '{model.uri}'; make it with a "
        "pipeline, or log it with modelmill.registry.bundles.log_model"
    )
    assert promotion.champion_version("topics", step_context.settings) is None


def test_a_challenger_whose_files_are_not_what_they_were_is_not_registered(
    propose: Propose, accepted: Accepted, step_context: StepContext
) -> None:
    model = propose("good").model_copy(update={"digest": "0" * 64})
    with pytest.raises(ModelError):
        promotion.promote(accepted(model), step_context)
    assert step_context.run.client.search_model_versions("name = 'topics'") == []


def test_a_model_in_use_is_told_with_its_dataset(
    propose: Propose, promoted: Callable[[int], ModelRef], accepted: Accepted, next_step: NextStep
) -> None:
    client = next_step("look").run.client
    with pytest.raises(GateError) as caught:
        promotion.in_use("topics", client)
    assert str(caught.value) == "topics must have a champion to use; got 'none'; promote one first"
    made = promoted(1)
    assert promotion.in_use("topics", client)[0] == made
    model = propose("bare", tweak=0.25)
    tag = "modelmill.dataset_reference"
    client.delete_logged_model_tag(model.uri.removeprefix("models:/"), tag)
    promotion.promote(accepted(model), next_step("k"))
    with pytest.raises(ModelError) as told:
        promotion.in_use("topics", client)
    assert str(told.value) == (
        f"the champion of topics must say which dataset it learned from; got 'version 2 without the tag "
        f"{tag}'; a rule set has none; a model of an earlier modelmill is made again"
    )
