"""A changed document goes back into its text: nothing else changes, whatever the text looks like."""

from __future__ import annotations

import copy
import random
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from modelmill.errors import PipelineError
from modelmill.pipeline.text import plain, read_document, write_document

SHIPPED = sorted((Path(__file__).parents[3] / "dags" / "pipelines").glob("*.yaml"))
TEXT = """\
# Head
pipeline: topics   # what it is called
description: >
  Folded,
  over lines
schedule: "0 2 * * *"
tags: [a,   b]     # spaces as they are

steps:
  raw: {component: ingest,   config: {uri: "${data}/x"}}   # the first

  # about the dataset
  dataset:
    component: build_dataset
    inputs: {table: raw.table}
    config:
      key: id     # the key
      labels:
        - topic
        - other   # the second

  # about the last one
  last: {component: evaluate}
# Foot
"""


VALUES = [
    *(1e-05, 1e22, -0.0, 10**30, "1e-5", "yes", "null", "1:30", "0o7", "1_000", "2024-01-01", "", " a "),
    *(
        "a: b",
        "# c",
        "- a",
        "a\nb\n",
        "\t",
        "\x07",
        "é\u2028",
        "é\x85é",
        "x\u2029\u2028x",
        "!t",
        "&a",
        "*a",
        "{{ x }}",
        "${x}",
        "'",
        '"',
    ),
    *("\\", None, True, [], {}, [[]], [{}], {"a": {"b": []}}, [None, "x"], {"1": "2"}),
]


def changed(text: str, change: Any) -> str:
    document = read_document(text)
    change(document)
    result = write_document(text, document)
    assert read_document(result) == document
    return result


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_a_shipped_pipeline_comes_back_as_it_is(path: Path) -> None:
    text = path.read_text()
    assert write_document(text, read_document(text)) == text


def test_one_value_is_one_change() -> None:
    def change(document: Any) -> None:
        document["steps"]["raw"]["config"]["uri"] = "/y"
        document["steps"]["dataset"]["config"]["key"] = 7
        document["steps"]["dataset"]["config"]["labels"][1] = "yes"

    expected = (
        TEXT.replace('"${data}/x"', "/y").replace("key: id ", "key: 7 ").replace("- other ", "- 'yes' ")
    )
    assert changed(TEXT, change) == expected


def test_a_step_goes_with_its_lines_and_no_others() -> None:
    def change(document: Any) -> None:
        del document["steps"]["dataset"]

    lines = TEXT.splitlines(keepends=True)
    begin, end = lines.index("  dataset:\n"), lines.index("        - other   # the second\n") + 1
    assert changed(TEXT, change) == "".join(lines[:begin] + lines[end:])


def test_a_new_step_stands_behind_the_one_before_it() -> None:
    def change(document: Any) -> None:
        steps = document["steps"]
        new = {"new": {"component": "gate", "config": {"name": "x"}}}
        document["steps"] = {"raw": steps["raw"], **new, "dataset": steps["dataset"], "last": steps["last"]}

    raw = '  raw: {component: ingest,   config: {uri: "${data}/x"}}   # the first\n'
    new = "  new: {component: gate, config: {name: x}}\n"
    assert changed(TEXT, change) == TEXT.replace(raw, raw + new)


def test_a_step_that_is_renamed_keeps_everything_else() -> None:
    def change(document: Any) -> None:
        document["steps"] = {
            "data" if name == "dataset" else name: step for name, step in document["steps"].items()
        }

    assert changed(TEXT, change) == TEXT.replace("  dataset:\n", "  data:\n")


def test_groups_come_change_and_go_in_their_place() -> None:
    def group(document: Any) -> None:
        steps = document.pop("steps")
        document["groups"] = {"each": {"steps": ["raw", "dataset"], "for_each": {"topic": ["a", "b"]}}}
        document["steps"] = {**steps, "last": {**steps["last"], "when": {"dataset": "refused"}}}

    groups = "groups: {each: {steps: [raw, dataset], for_each: {topic: [a, b]}}}\n"
    tags = "tags: [a,   b]     # spaces as they are\n"
    expected = TEXT.replace(tags, tags + groups)
    expected = expected.replace("evaluate}", "evaluate, when: {dataset: refused}}")
    grouped = changed(TEXT, group)
    assert grouped == expected

    def change(document: Any) -> None:
        document["groups"]["each"]["for_each"]["topic"].append("c")
        document["groups"]["each"]["steps"] = ["dataset"]

    expected = expected.replace("[raw, dataset]", "[dataset]").replace("[a, b]", "[a, b, c]")
    assert changed(grouped, change) == expected

    def ungroup(document: Any) -> None:
        del document["groups"]
        del document["steps"]["last"]["when"]

    assert changed(grouped, ungroup) == TEXT


def test_keys_come_and_go_within_one_line() -> None:
    def change(document: Any) -> None:
        del document["steps"]["raw"]["component"]
        document["steps"]["raw"]["retries"] = 3
        document["tags"].append("c")
        document["schedule"] = None

    expected = TEXT.replace("component: ingest,   config", "config").replace('x"}}', 'x"}, retries: 3}')
    expected = expected.replace("[a,   b]", "[a, b, c]").replace('"0 2 * * *"', "null")
    assert changed(TEXT, change) == expected


@pytest.mark.parametrize(
    "value",
    VALUES,
    ids=repr,
)
@pytest.mark.parametrize("place", ["key", "labels", "new"])
def test_a_value_of_any_kind_is_read_back(value: Any, place: str) -> None:
    def change(document: Any) -> None:
        document["steps"]["dataset"]["config"][place] = value

    result = changed(TEXT, change)
    assert "# about the last one" in result


@pytest.mark.parametrize(
    "text", ["", "[1, 2]", "a: &x 1\nb: *x\n", "a: {b: 1}\nc:\n  <<: {d: 2}\n", "%bad", "a: 1\na: 2\n"]
)
def test_what_cannot_be_edited_in_place_is_written_anew(text: str) -> None:
    document = {"pipeline": "topics", "steps": {"raw": {"component": "ingest"}}}
    assert read_document(write_document(text, document)) == document


def test_json_stays_json() -> None:
    text = '{\n  "pipeline": "topics",\n  "steps": {}\n}\n'
    assert write_document(text, {"pipeline": "other", "steps": {}}) == text.replace("topics", "other")


def test_dates_and_numbers_that_json_lacks_stay_in_the_text() -> None:
    text = "day: 2024-01-01\nlimit: .inf\nname: x\n"
    assert read_document(text) == {"day": "2024-01-01", "limit": None, "name": "x"}
    assert changed(text, lambda document: document.update(name="y")) == text.replace("x", "y")


def test_what_is_no_yaml_is_said() -> None:
    with pytest.raises(PipelineError, match="the text must be YAML"):
        read_document("a: [")


def test_a_text_that_stands_for_billions_is_refused() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    with pytest.raises(PipelineError, match="aliases written out"):
        read_document("\n".join(lines))
    with pytest.raises(PipelineError):
        read_document("[" * 5000)


leaves = st.none() | st.booleans() | st.integers(-5, 5) | st.floats(allow_nan=False, allow_infinity=False)
texts = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=8)
keys = st.sampled_from("abcdefgh")
values = st.recursive(
    leaves | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=8,
)


@given(
    before=st.dictionaries(keys, values, min_size=1, max_size=5),
    after=st.dictionaries(keys, values, min_size=1, max_size=5),
    style=st.sampled_from([None, True, False]),
)
def test_any_document_becomes_any_other(before: Any, after: Any, style: bool | None) -> None:
    text = yaml.safe_dump(before, sort_keys=False, default_flow_style=style, allow_unicode=True)
    assert write_document(text, plain(yaml.safe_load(text))) == text
    assert read_document(write_document(text, after)) == plain(after)


@pytest.mark.parametrize("seed", range(100))
def test_a_generated_pipeline_comes_back_and_keeps_its_comments(seed: int) -> None:
    """Its own generator: benchmarks/round_trip.py runs a thousand of them."""
    rng = random.Random(seed)
    text = generated(rng)
    document = read_document(text)
    assert write_document(text, document) == text
    other = copy.deepcopy(document)
    step = rng.choice(list(other["steps"]))
    other["steps"][step]["config"]["batch_size"] = rng.randrange(1000)
    result = write_document(text, other)
    assert read_document(result) == other
    assert [line for line in result.splitlines() if line.strip().startswith("#")] == [
        line for line in text.splitlines() if line.strip().startswith("#")
    ]
    # What differs are lines of that one step.
    gone = set(text.splitlines()) - set(result.splitlines())
    assert len(gone) <= 1, gone


def generated(rng: random.Random) -> str:
    """Return a pipeline's text: groups and steps in block and flow style, with comments and blank lines."""
    count = rng.randint(1, 12)
    lines = [f"pipeline: generated_{rng.randrange(1000)}  # name", "", *_groups(rng, count), "steps:"]
    for number in range(count):
        if rng.random() < 0.4:
            lines.append(f"  # about step {number}: {{'not': a value}}")
        inputs = f"{{dataset: step_{rng.randrange(number)}.dataset}}" if number else "{}"
        config = f"{{epochs: {rng.randint(1, 9)}, label: 'l{number}'}}"
        gate = f"{{step_{rng.randrange(number)}: {rng.choice(['accepted', 'refused'])}}}" if number else ""
        when = gate if rng.random() < 0.3 else ""
        if rng.random() < 0.4:
            more = f"{config}, when: {when}" if when else config
            lines.append(
                f"  step_{number}: {{component: fine_tune, inputs: {inputs},  config: {more}}}  # {number}"
            )
        else:
            lines += [f"  step_{number}:", "    component: fine_tune", f"    inputs: {inputs}"]
            lines += [f"    when: {when}   # only then"] if when else []
            nested = ["    config:", f"      epochs: {rng.random()}", f"      label: l{number}  # label"]
            lines += nested if rng.random() < 0.5 else [f"    config: {config}"]
        lines += [""] * rng.randint(0, 2)
    return "\n".join(lines) + "\n" * rng.randint(0, 3)


def _groups(rng: random.Random, count: int) -> list[str]:
    """Return the lines of some groups of the steps, each step in one at most; none for half of the texts."""
    steps = [f"step_{number}" for number in range(count)]
    rng.shuffle(steps)
    lines = []
    for number in range(rng.choice([0, 0, 1, 3])):
        members, steps = steps[:3], steps[3:]
        if not members:
            break
        values = ", ".join(rng.sample(["grain", "'crude oil'", "7", "0.50", "yes", '"x"'], k=3))
        if rng.random() < 0.4:
            lines.append(
                f"  group_{number}: {{steps: [{', '.join(members)}], for_each: {{v: [{values}]}}}}  # g"
            )
            continue
        lines += [f"  group_{number}:", "    # its steps", "    steps:"]
        lines += [f"      - {member}" for member in members]
        lines += [f"    for_each: {{v: [{values}]}}  # values"] if rng.random() < 0.6 else []
        lines += ["    description: >-", "      folded", "      lines", ""] if rng.random() < 0.5 else []
    return ["groups:", *lines, ""] if lines else []
