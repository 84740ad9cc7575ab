"""Baselines learn what is there to learn, and nothing else."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer

from modelmill.tasks.baselines import MAJORITY, TFIDF_SVM, _beats, _cut
from modelmill.tasks.character_counts import CharacterCounts
from modelmill.tasks.class_metrics import ACCURACY
from modelmill.tasks.multi_label import MultiLabel
from modelmill.tasks.regression import Regression
from modelmill.tasks.single_label import SingleLabel


def baselines(texts: list[str], labels: list[str], new_texts: list[str]) -> dict[str, list[str]]:
    """Fit the baselines, and answer new texts."""
    truth = np.array(labels, dtype=object)
    return {name: list(found) for name, found in SingleLabel().baselines(texts, truth, new_texts).items()}


def test_words_give_the_topic_away(topic_rows: Callable[..., list[tuple[str, str]]]) -> None:
    train, test = topic_rows(60), topic_rows(40, seed=1)
    texts, labels = map(list, zip(*train, strict=True))
    labels[0] = labels[1]  # an odd one, so that the majority is clear
    found = baselines(texts, labels, [text for text, _ in test])
    assert found[MAJORITY] == ["trade"] * 40
    assert ACCURACY.of([topic for _, topic in test], found[f"{TFIDF_SVM} (words)"]) > 0.95


def test_a_tie_goes_to_the_first_name() -> None:
    found = baselines(["bb", "aa"], ["zebra", "ant"], ["cc"])
    assert found[MAJORITY] == ["ant"]


@pytest.mark.parametrize(
    ("texts", "labels"), [(["one", "two"], ["a", "a"]), (["", ""], ["a", "b"])], ids=["class", "words"]
)
def test_what_cannot_be_fitted_is_left_out(texts: list[str], labels: list[str]) -> None:
    assert baselines(texts, labels, ["one"]) == {MAJORITY: ["a"]}


def test_without_words_characters_are_read() -> None:
    found = baselines(["!", "?"], ["a", "b"], ["?", "!", ""])
    assert found[f"{TFIDF_SVM} (characters 1 to 3)"][:2] == ["b", "a"]


GOOD, BAD, FILLER = (
    ["很好看", "喜欢它", "值得买"],
    ["不好看", "失望了", "别买它"],
    "的了是我在有他这中大来上国个到说们为子",
)


def reviews(count: int, seed: int) -> tuple[list[str], list[str]]:
    """Return Chinese sentences without spaces, and what they say of a book."""
    random = np.random.default_rng(seed)
    labels = ["good" if row % 2 else "bad" for row in range(count)]
    texts = []
    for label in labels:
        filler = "".join(random.choice(list(FILLER), 12))
        at = int(random.integers(0, 12))
        texts.append(filler[:at] + str(random.choice(GOOD if label == "good" else BAD)) + filler[at:])
    return texts, labels


@pytest.mark.parametrize("validation", [0, 30])
def test_a_script_without_spaces_is_read_by_characters(validation: int) -> None:
    (texts, labels), (new_texts, wanted) = reviews(150, 0), reviews(60, 1)
    texts[3] = ""
    truth = np.array(labels, dtype=object)
    found = SingleLabel().baselines(texts, truth, new_texts, validation=validation)
    (name,) = set(found) - {MAJORITY}
    assert "characters" in name
    assert ACCURACY.of(wanted, found[name]) > 0.9
    again = SingleLabel().baselines(texts, truth, new_texts, validation=validation)
    assert again.keys() == found.keys()
    assert (again[name] == found[name]).all()


def test_sets_and_numbers_choose_as_well() -> None:
    (texts, labels), (new_texts, wanted) = reviews(150, 0), reviews(60, 1)
    good = np.array([[float(label == "good")] for label in labels])
    right = np.array([[float(label == "good")] for label in wanted])
    sets = np.hstack([good, 1 - good, np.zeros_like(good)])
    for task, truth, answer in (
        (MultiLabel(), sets, np.hstack([right, 1 - right, 0 * right])),
        (Regression(), good, right),
    ):
        found = task.baselines(texts, truth, new_texts)
        name = next(name for name in found if "characters" in name)
        assert task.metrics[0].of(answer, found[name]) > 0.5


def test_texts_are_cut_to_one_length_and_none_more_than_needed() -> None:
    assert _cut(["abc", "abcdefgh", ""], 100) == ["abc", "abcdefgh", ""]
    assert _cut(["abc", "abcdefgh", "ab"], 9) == ["abc", "abcd", "ab"]
    assert _cut(["abcd", "efgh"], 5) == ["ab", "ef"]
    assert _cut([], 5) == []


@pytest.mark.parametrize("sizes", [(1, 3), (2, 5)])
@pytest.mark.parametrize("rarest", [1, 2])
def test_characters_are_counted_as_scikit_learn_does(sizes: tuple[int, int], rarest: int) -> None:
    random = np.random.default_rng(0)
    letters = list("abcÄß  \n\t漢字ไทย😀\x00")
    texts = ["", "a", *("".join(random.choice(letters, int(random.integers(0, 30)))) for _ in range(60))]
    ours, theirs = (
        CharacterCounts(sizes, rarest),
        CountVectorizer(analyzer="char", ngram_range=sizes, min_df=rarest),
    )
    for mine, other in (
        (ours.fit_transform(texts[:40]), theirs.fit_transform(texts[:40])),
        (ours.transform(texts[40:]), theirs.transform(texts[40:])),
    ):
        assert mine.shape == other.shape
        # The columns have another order: what rows have in common is the same.
        assert ((mine @ mine.T) != (other @ other.T)).nnz == 0


def test_characters_that_only_rare_texts_have_are_none_to_learn() -> None:
    with pytest.raises(ValueError, match="stands in 2 texts; got none"):
        CharacterCounts((1, 3), 2).fit_transform(["a", "b"])
    assert list(CharacterCounts((1, 1)).fit_transform(["a\ud800"]).toarray()[0]) == [1, 1]


def test_a_difference_of_chance_is_none() -> None:
    truth = np.array(["a", "b"] * 50, dtype=object)
    ours, theirs = truth.copy(), truth.copy()
    ours[:10], theirs[10:21] = "c", "c"
    assert not _beats(ours, theirs, truth, ACCURACY.of)  # one row better
    theirs[10:40] = "c"
    assert _beats(ours, theirs, truth, ACCURACY.of)
