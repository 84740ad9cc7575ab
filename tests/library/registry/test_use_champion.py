"""A pipeline that trains nothing takes the model that is in use, and the dataset that it learned from."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from modelmill.artifacts import DatasetRef, ModelRef, VerdictRef
from modelmill.component import StepContext
from modelmill.errors import GateError, ModelError
from modelmill.registry import promotion
from modelmill.steps.ports import NoInputs
from modelmill.steps.use_champion import UseChampionConfig, use_champion


def test_the_champion_comes_with_its_dataset(
    promoted: Callable[[int], ModelRef], topic_dataset: DatasetRef, step_context: StepContext
) -> None:
    config, inputs = UseChampionConfig(name="topics"), NoInputs()
    with pytest.raises(GateError, match="topics must have a champion to use; got 'none'; promote one first"):
        use_champion.run(config, inputs, step_context)
    assert use_champion.outside_state is not None
    states = []
    for number in (1, 2):
        model = promoted(number)
        found = use_champion.run(config, inputs, step_context)
        assert (found.model, found.dataset) == (model, topic_dataset)
        states.append(use_champion.outside_state(config, inputs, step_context.settings))
    assert states == ["champion=1", "champion=2"]


def test_a_champion_that_names_no_dataset_is_told(
    propose: Callable[..., ModelRef], accepted: Callable[..., VerdictRef], step_context: StepContext
) -> None:
    model = propose("good")
    identifier = model.uri.removeprefix("models:/")
    step_context.run.client.delete_logged_model_tag(identifier, "modelmill.dataset_reference")
    promotion.promote(accepted(model), step_context)
    with pytest.raises(ModelError, match="must say which dataset it learned from; got 'version 1 without"):
        use_champion.run(UseChampionConfig(name="topics"), NoInputs(), step_context)
