"""The canvas writes a pipeline's text, and modelmill's loader reads it: what the one writes the other reads.

The canvas's own tests cover how it edits a text; here PyYAML reads the result, as the loader does.
"""

from __future__ import annotations

import copy
import json
import random
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

CANVAS = Path(__file__).parents[2] / "plugins" / "canvas"
SHIPPED = sorted((Path(__file__).parents[2] / "dags" / "pipelines").glob("*.yaml"))
BUNDLER = CANVAS / "node_modules" / ".bin" / "rolldown"
TEXT = """\
# Head
pipeline: topics   # what it is called
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
"""
VALUES = [
    *(1e-05, 1e22, 10**20, "1e-5", "yes", "null", "1:30", "0o7", "1_000", "2024-01-01", "", " a "),
    *("a: b", "# c", "- a", "a\nb\n", "\t", "\x07", "\u00e9\u2028", "\u00e9\x85\u00e9", "x\u2029\u2028x"),
    *("!t", "&a", "*a", "{{ x }}", "${x}", "'", '"', "\\"),
    *(None, True, [], {}, [[]], [{}], {"a": {"b": []}}, [None, "x"], {"1": "2"}),
]
# Reads [text, document] pairs as JSON, one a line, and prints each text with the document written into it.
WRITER = """
import {{ createInterface }} from "node:readline";
import {{ newText, reconcile }} from {module};
for await (const line of createInterface({{ input: process.stdin }})) {{
  const [text, document] = JSON.parse(line);
  console.log(JSON.stringify(text === "" ? newText(document) : reconcile(text, document)));
}}
"""

Write = Callable[[list[tuple[str, Any]]], list[str]]


def writer(folder: Path) -> Write:
    """Return the canvas's writer; it takes texts with the documents that they are to stand for.

    :param folder: an empty folder for the bundled script.
    """
    module = folder / "document.mjs"
    source = CANVAS / "src" / "core" / "document.ts"
    bundle = [str(BUNDLER), str(source), "--format", "esm", "--platform", "node", "-o", str(module)]
    subprocess.run(bundle, check=True, capture_output=True)
    script = folder / "write.mjs"
    script.write_text(WRITER.format(module=json.dumps(module.as_uri())))

    def write(pairs: list[tuple[str, Any]]) -> list[str]:
        lines = "".join(json.dumps(pair) + "\n" for pair in pairs)
        done = subprocess.run(["node", str(script)], input=lines, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    return write


@pytest.fixture(scope="module")
def write(tmp_path_factory: pytest.TempPathFactory) -> Write:
    if not BUNDLER.exists() or shutil.which("node") is None:
        pytest.skip("the canvas's packages, or Node, are not installed")
    return writer(tmp_path_factory.mktemp("writer"))


def test_shipped_pipelines_come_back_as_they_are(write: Write) -> None:
    texts = [path.read_text() for path in SHIPPED]
    assert write([(text, yaml.safe_load(text)) for text in texts]) == texts


def test_a_value_of_any_kind_is_read_as_it_was_written(write: Write) -> None:
    documents = []
    for value in VALUES:
        for place in ("key", "labels", "new"):
            document = yaml.safe_load(TEXT)
            document["steps"]["dataset"]["config"][place] = value
            documents.append(document)
    for text in (TEXT, ""):
        for document, found in zip(documents, write([(text, item) for item in documents]), strict=True):
            assert yaml.safe_load(found) == document, found
            assert ("# about the last one" in found) == bool(text)


def test_generated_pipelines_come_back_and_keep_their_comments(write: Write) -> None:
    rng = random.Random(0)
    texts = [generated(rng) for _ in range(100)]
    documents = [yaml.safe_load(text) for text in texts]
    assert write(list(zip(texts, documents, strict=True))) == texts
    others = [copy.deepcopy(document) for document in documents]
    for other in others:
        other["steps"][rng.choice(list(other["steps"]))]["config"]["batch_size"] = rng.randrange(1000)
    for text, other, result in zip(texts, others, write(list(zip(texts, others, strict=True))), strict=True):
        assert yaml.safe_load(result) == other
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
