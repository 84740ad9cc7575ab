"""Rule sets from text: every problem with its place, and hostile texts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from modelmill.errors import RuleSetError
from modelmill.rules.examples import load_tried_rule_set
from modelmill.rules.reading import load_rule_set, parse_rule_set

GOOD = """
rule_set: moderation
key: id
signals:
  size: {kind: column}
  offer: {kind: regex, column: text, pattern: "(?i)free"}
  spam: {kind: model, column: text, model: "models:/spam@champion", label: spam}
  odds: {kind: sql, expression: "spam / (1 - spam)"}
rules:
  - {name: big, when: "size > 3", then: remove, reason: "{size} is {odds:.1f}"}
  - name: spam
    when: >
      odds > 1
      AND offer
    then: flag
default: allow
"""
SCHEMA = pa.schema([("id", pa.string()), ("size", pa.int64()), ("text", pa.string())])


def problems(text: str, schema: pa.Schema | None = None) -> list[str]:
    with pytest.raises(RuleSetError) as caught:
        parse_rule_set(text, schema=schema)
    return [str(problem) for problem in caught.value.problems]


def test_a_rule_set_is_read_from_yaml_and_json(tmp_path: Path) -> None:
    rule_set = parse_rule_set(GOOD, schema=SCHEMA)
    assert [rule.name for rule in rule_set.rules] == ["big", "spam"]
    path = tmp_path / "rules.json"
    path.write_text(rule_set.model_dump_json())
    assert load_rule_set(str(path)) == rule_set


def test_json_may_escape_a_character_as_two() -> None:
    content = json.loads(parse_rule_set(GOOD).model_dump_json())
    content["rules"][0] |= {"reason": "so \\ud83d \U0001f600 \U0001f4b0", "then": "\U0001f600"}
    text = json.dumps(content)
    assert "\\ud83d\\ude00" in text
    found = parse_rule_set(text)
    assert (found.rules[0].reason, found.rules[0].then) == ("so \\ud83d 😀 💰", "😀")
    half = "a text is made of whole characters; got \\ude00, half a surrogate pair"
    assert any(half in one for one in problems(text.replace("so \\\\ud83d \\ud83d", "so ")))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "{odds:.1f}",
            "{odds:>1000000000}",
            "10:49: rules.0.reason: a value's format makes at most",
        ),
        ("key: id", "kee: id", "3:1: kee: unknown key; got 'kee'; did you mean 'key'?"),
        ("kind: regex", "kind: rex", "6:3: signals.offer: a signal's kind must be known; got 'rex'; did"),
        ("{kind: column}", "{colum: x}", "5:3: signals.size: a signal has a kind; add one of column"),
        ("pattern: ", "patern: ", "6:38: signals.offer.patern: unknown key; got 'patern'; did you"),
        ("size: {", "Size!: {", "5:3: signals.Size!: a name has at most 63 of a-z"),
        ("1 - spam", "1 - spm", "8:21: signals.odds.expression: 1:13: a signal must exist; got 'spm'"),
        ("size > 3", "size > ", "10:17: rules.0.when: 1:6: the expression must be SQL"),
        ("AND offer", "AND offr", "12:5: rules.1.when: 1:14: a signal must exist; got 'offr'; did you"),
        ("AND offer", "AND spam", "12:5: rules.1.when: 1:1: AND takes a condition; got a number"),
        ("name: spam", "name: big", "11:5: rules.1.name: a rule's name stands once; got 'big'"),
        ("{odds:.1f}", "{odd}", "10:49: rules.0.reason: a reason names signals; got 'odd'; did you mean"),
        ("{odds:.1f}", "{odds:d}", "10:49: rules.0.reason: a value's format must fit the signal 'odds'"),
        ("{odds:.1f}", "{odds", "10:49: rules.0.reason: a reason must be text with signals in curly"),
        ("{odds:.1f}", "{odds.real}", "10:49: rules.0.reason: a reason names signals; got 'odds.real'"),
        ("default: allow", "default: a\ndefault: b", "16:1: default: a key may stand once"),
        ("rule_set: mod", "rule_set: [mod", "3:4: the text must be YAML"),
    ],
)
def test_a_problem_is_named_with_its_place(old: str, new: str, message: str) -> None:
    found = problems(GOOD.replace(old, new))
    assert any(one.startswith(message) for one in found), found


def test_a_table_says_what_is_wrong_with_columns() -> None:
    schema = pa.schema([("ids", pa.string()), ("size", pa.string()), ("txt", pa.string())])
    found = problems(GOOD, schema)
    assert [one.split(";")[0] for one in found] == [
        "3:1: key: the key must be a column of the input",
        "6:3: signals.offer: the column of signal 'offer' must be in the input",
        "7:3: signals.spam: the column of signal 'spam' must be in the input",
        "10:17: rules.0.when: 1:1: > takes values of one kind",
    ]


@pytest.mark.parametrize(
    ("signal", "message"),
    [
        (
            "function: wrds, columns: [text]",
            "5:26: signals.size.function: a measure must be known; did you mean",
        ),
        (
            "function: words, columns: [text, id]",
            "5:43: signals.size.columns: words reads 1 column, of kind",
        ),
        (
            "function: characters, columns: [text], options: {chars: 1}",
            "5:75: signals.size.options.chars: an option must be known; did you mean 'characters'?",
        ),
        (
            "function: characters, columns: [text], options: {characters: 1}",
            "5:75: signals.size.options.characters: 'characters' must be text; got 1",
        ),
    ],
)
def test_a_measured_signal_is_checked_by_its_measure(signal: str, message: str) -> None:
    found = problems(GOOD.replace("{kind: column}", f"{{kind: measured, {signal}}}"))
    assert [one for one in found if one.startswith(message)], found


def test_the_kind_of_a_measured_signal_is_known_without_a_table() -> None:
    found = problems(
        GOOD.replace("{kind: column}", "{kind: measured, function: words, columns: [text]}").replace(
            "size > 3", "size LIKE '3'"
        )
    )
    assert "LIKE takes text; got a number" in found[0]


def test_problems_of_shape_and_of_sql_are_listed_together() -> None:
    text = GOOD.replace("label: spam", "lable: spam").replace("size > 3", "siz > 3")
    found = problems(text)
    assert found[0].startswith("7:69: signals.spam.lable: unknown key")
    assert "rules.0.when: 1:1: a signal must exist; got 'siz'" in found[1]


@pytest.mark.parametrize("text", ["", "[]", "3", "rules: 1", "\x00", "a: &a [*a]", "- " * 5000, "{" * 5000])
def test_a_text_that_is_no_rule_set_gives_one_clear_error(text: str) -> None:
    assert problems(text)


def test_aliases_do_not_blow_up() -> None:
    text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    for level in range(1, 12):
        text += f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]\n"
    assert "aliases may add at most 20,000 places" in problems(text)[0]


def test_ten_thousand_rules_are_read_checked_and_wrong_ones_are_named() -> None:
    content: dict[str, Any] = {
        "rule_set": "many",
        "key": "id",
        "signals": {f"s{number}": {"kind": "column"} for number in range(1000)},
        "rules": [
            {"name": f"r{number}", "when": f"s{number % 1000} > {number}", "then": "a"}
            for number in range(10_000)
        ],
        "default": "b",
    }
    content["rules"][7777]["when"] = "s7777 > 1"
    with pytest.raises(RuleSetError) as caught:
        parse_rule_set(json.dumps(content, indent=0))
    (problem,) = caught.value.problems
    assert problem.path == "rules.7777.when"
    assert "got 's7777'" in problem.message
    assert len(problem.message) < 1000


def test_examples_are_tried_without_models(tmp_path: Path) -> None:
    text = (
        GOOD
        + """
examples:
  - {row: {size: 4}, decision: remove, rule: big}
  - {signals: {odds: 2.0, offer: true}, decision: flag}
  - {row: {size: 4}, decision: allow}
  - {row: {size: many}, decision: allow}
  - {signals: {sized: 1}, decision: allow}
  - {row: {size: 4}, decision: remove, rule: spam}
"""
    )
    assert parse_rule_set(text).digest == parse_rule_set(GOOD).digest
    (tmp_path / "rules.yaml").write_text(text)
    with pytest.raises(RuleSetError) as caught:
        load_tried_rule_set(str(tmp_path / "rules.yaml"))
    said = [problem.message for problem in sorted(caught.value.problems, key=lambda one: one.line)]
    assert said[0] == "the decision is to be allow; it is remove (rule big)"
    assert "takes values of one kind; got text and a number" in said[1]
    assert said[2] == "an example gives values of signals; got sized; name signals"
    assert said[3] == "rule spam is to decide; it is remove (rule big)"
    assert len(said) == 4
