"""A text is answered by a process of its own, within bounds."""

from __future__ import annotations

from typing import Any

import pytest

from modelmill.errors import ModelError, TransientError
from modelmill.serving import answering
from modelmill.serving.answering import answers_of


@pytest.fixture(name="model")
def _model(registry: Any) -> Any:
    return registry.log("onnx")


def test_two_models_answer_side_by_side(model: Any, registry: Any) -> None:
    broken = model.model_copy(update={"digest": "0" * 64, "uri": "models:/m-gone"})
    good, bad = answers_of([model, broken], "the goal of the team")
    assert good.error == ""
    assert good.answer == good.classes[0].name
    assert good.score == pytest.approx(good.classes[0].probability, abs=1e-6)
    assert sum(one.probability for one in good.classes) == pytest.approx(1, abs=1e-5)
    assert (bad.answer, bad.classes) == (None, ())
    assert bad.error


def test_a_text_without_words_has_no_answer(model: Any) -> None:
    [answer] = answers_of([model], " \n ")
    assert (answer.answer, answer.score, answer.classes, answer.error) == (None, None, (), "")


def test_a_model_of_texts_is_not_asked_about_a_picture(model: Any) -> None:
    [answer] = answers_of([model], b"GIF89a")
    assert answer.error == "this model reads texts; got 'image'; give it a text"


def test_it_ends_when_it_takes_too_long(model: Any) -> None:
    with pytest.raises(ModelError, match=r"an answer is there within 0 s"):
        answers_of([model], "the goal", seconds=0.01)


def test_it_ends_when_it_takes_too_much_memory(model: Any) -> None:
    with pytest.raises(ModelError, match="must end with an answer") as caught:
        answers_of([model], "the goal", memory=60 * 1024**2)
    assert "0.059 GB of memory" in str(caught.value)


def test_one_question_is_answered_at_a_time(model: Any) -> None:
    with answering._turn, pytest.raises(TransientError, match="one question is answered at a time"):
        answers_of([model], "the goal")
    assert answers_of([model], "the goal")[0].error == ""
