"""What the documentation shows of rules and labels is true."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import yaml

from modelmill.pipeline.validation import load_pipeline
from modelmill.rules.engine import Engine
from modelmill.rules.explanation.rendering import explanation_text
from modelmill.rules.language.expressions import compile_expressions
from modelmill.rules.language.functions import FUNCTIONS, POLYMORPHIC
from modelmill.rules.reading import parse_rule_set
from modelmill.rules.rule_set import RuleSet
from modelmill.steps.label_rows import LabelRowsConfig

ROOT = Path(__file__).parents[3]


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / "docs" / page).read_text(), re.DOTALL)


def test_every_function_is_documented_and_no_other() -> None:
    table = (ROOT / "docs/rules.md").read_text().split("## Functions")[1].split("## Values")[0]
    calls = " ".join(line.split("|")[1] for line in table.splitlines() if line.startswith("| `"))
    assert set(re.findall(r"(\w+)\(", calls)) == {*FUNCTIONS, *POLYMORPHIC}


def test_the_example_in_python_gives_what_it_says() -> None:
    (example,) = blocks("rules.md", "python")
    names: dict[str, Any] = {}
    exec(example, names)
    found = names["program"].evaluate(names["batch"])
    assert {name: column.to_pylist() for name, column in found.items()} == {
        "short": [True, None],
        "big": [False, True],
    }
    assert names["program"].columns == ("text", "n")


def test_the_labelling_functions_that_are_shown_and_measured_are_valid() -> None:
    shown = yaml.safe_load(blocks("labels.md", "yaml")[0])["steps"]["labelled"]["config"]
    measured = load_pipeline(str(ROOT / "benchmarks/reuters_labels.yaml")).steps["labelled"].config
    schema = pa.schema([("id", pa.string()), ("text", pa.string()), ("topic", pa.string())])
    for content in (shown, measured):
        config = LabelRowsConfig.model_validate(content)
        texts = {name: function.when for name, function in config.functions.items()}
        assert compile_expressions(texts, schema, kind="boolean").columns == ("text",)


def test_the_rule_set_that_is_shown_is_valid() -> None:
    example, examples = blocks("rules.md", "yaml")
    schema = pa.schema([("id", pa.string()), ("n_words", pa.int64()), ("text", pa.string())])
    rule_set = parse_rule_set(f"{example}\n{examples}", schema=schema)
    assert (len(rule_set.rules), len(rule_set.examples)) == (3, 3)


def test_the_explanation_that_is_shown_is_what_is_printed() -> None:
    rule_set = RuleSet.model_validate(
        {
            "rule_set": "shown",
            "key": "id",
            "signals": {"size": {"kind": "column"}, "spam": {"kind": "column"}},
            "rules": [
                {
                    "name": "big",
                    "when": "size > 3",
                    "then": "remove",
                    "severity": "high",
                    "reason": "{size} is too big",
                },
                {"name": "odd", "when": "spam / (1 - spam) > 1", "then": "flag"},
            ],
            "default": "allow",
        }
    )
    batch = pa.RecordBatch.from_pydict({"id": [1], "size": [7], "spam": [0.95]})
    (row,) = Engine(rule_set, batch.schema).decide(batch, explain=True).to_pylist()
    assert f"```\n{explanation_text(row)}\n```" in (ROOT / "docs/rules.md").read_text()
