"""Rows that are chosen by margin are those that a model of the answers is least sure of."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from modelmill.language_models.options import RowSelection
from modelmill.language_models.plan import PlannedRow
from modelmill.language_models.selection import SelectableContent, select_in_rounds, units_of


def units(count: int) -> list[SelectableContent]:
    """Texts of two labels; every tenth has words of both, and belongs to the second."""
    random = Random(3)
    found = []
    for number in range(count):
        words = (
            random.choices(("goal", "team", "coach"), k=4)
            if number % 2
            else random.choices(("bank", "loan"), k=4)
        )
        if number % 10 == 0:
            words = ["goal", "bank", "goal", "loan"]
        found.append(
            SelectableContent(" ".join([*words, f"n{number}"]), (f"{random.random():.12f}",), (None,))
        )
    return sorted(found, key=lambda unit: unit.keys[0])


def labels_of(unit: SelectableContent) -> list[str | None]:
    return ["trade" if "bank" in unit.content or "loan" in unit.content else "sport"]


def run(found: Sequence[SelectableContent], **options: float) -> tuple[dict[str, float], list[list[str]]]:
    asked: list[list[str]] = []
    selection = RowSelection.model_validate(options)
    chosen = select_in_rounds(
        found, selection, ask=lambda keys, _later: asked.append([*keys]), labels_of=labels_of
    )
    return chosen.inclusion, asked


def test_the_rows_between_the_labels_are_asked_about_first() -> None:
    found = units(200)
    mixed = {unit.keys[0] for unit in found if "goal bank" in unit.content}
    by_margin, asked = run(found, rows=60, rounds=3, random_share=0.0)
    at_random, _ = run(found, rows=60, rounds=1, random_share=1.0)
    assert [len(keys) for keys in asked] == [0, 20, 20, 20]
    assert len(by_margin) == len(at_random) == 60
    assert len(mixed & set(by_margin)) > 1.5 * len(mixed & set(at_random))
    assert set(at_random.values()) == {60 / 200}


def test_later_rounds_are_foretold_by_what_would_be_chosen_now() -> None:
    found, told = units(200), list[tuple[int, list[str]]]()
    options = RowSelection(rows=60, rounds=3, random_share=0.0)
    chosen = select_in_rounds(
        found, options, ask=lambda keys, later: told.append((len(keys), [*later])), labels_of=labels_of
    )
    # Nothing is known before the first round, then the rows between the labels.
    assert [(asked, len(later)) for asked, later in told] == [(0, 60), (20, 40), (20, 20), (20, 0)]
    assert len(set(told[2][1]) & set(chosen.inclusion)) > 10


def test_more_rows_than_there_are_are_all_of_them() -> None:
    found = units(30)
    chosen, asked = run(found, rows=1_000, rounds=7)
    assert set(chosen) == {unit.keys[0] for unit in found}
    assert sum(map(len, asked)) == 30


def test_texts_without_words_are_chosen_at_random() -> None:
    chosen, _ = run([SelectableContent("!", (f"{n}",), (None,)) for n in range(9)], rows=6, rounds=2)
    assert len(chosen) == 6


def test_equal_contents_are_one_unit_and_gold_counts() -> None:
    rows = [
        PlannedRow(("b",), None),
        PlannedRow((), None),
        PlannedRow(("a",), None),
        PlannedRow(("b", "c"), "x"),
    ]
    found = units_of([rows], ["two", None, "one", "two"])
    assert found == [SelectableContent("one", ("a",), (None,)), SelectableContent("two", ("b", "c"), ("x",))]
