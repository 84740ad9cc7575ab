"""Words of Python's that the canvas shows in other languages: none is forgotten, none is left over."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
from pydantic import BaseModel

from modelmill.errors import PipelineError
from modelmill.pipeline.catalogue import catalogue
from modelmill.pipeline.templates import TEMPLATES
from modelmill.pipeline.validation import check_text
from modelmill.signals.registry import signal_kinds
from modelmill.workspace import Units

SOURCES = Path(__file__).parents[2] / "plugins" / "canvas" / "src" / "i18n"
LANGUAGES = ["zh-CN"]
VALUES = {"default", "const", "enum", "examples"}
"""Keywords of JSON Schema whose content is data: a title in there is nobody's to translate."""
CODE = re.compile(r"\$?\{\w+\}|[A-Za-z0-9]+(?:_[A-Za-z0-9]+)+|\d+(?:[.,]\d+)*")
"""What a translation keeps: placeholders, names with an underscore, numbers."""


def spoken() -> set[str]:
    """Headings and titles of all components, titles of templates, and what progress counts."""
    titles = {text for item in catalogue().values() for text in (item.title, item.group)}
    return titles | {template.title for template in TEMPLATES.values()} | set(get_args(Units))


def schema_texts() -> set[str]:
    """Help of modelmill's own components and kinds of signals, and the texts of all forms."""
    components = [item for item in catalogue().values() if is_own(item.config)]
    kinds = [kind for kind in signal_kinds().values() if is_own(kind.config)]
    helps = {item.help for item in components} | {text for kind in kinds for text in (kind.title, kind.help)}
    forms: list[type[BaseModel]] = [item.config for item in components]
    forms += [kind.config for kind in kinds]
    forms += [template.form for template in TEMPLATES.values()]
    return helps | {text for form in forms for text in form_texts(form)}


def is_own(config: type[BaseModel]) -> bool:
    """Whether it is modelmill's: what other distributions add stays in English."""
    return config.__module__.split(".")[0] == "modelmill"


def form_texts(form: type[BaseModel]) -> Iterator[str]:
    """Titles and descriptions in a form; it leaves out the heading of the whole schema."""
    schema = form.model_json_schema()
    return texts_in({key: value for key, value in schema.items() if key not in {"title", "description"}})


def texts_in(schema: object) -> Iterator[str]:
    if isinstance(schema, list):
        for item in schema:
            yield from texts_in(item)
    elif isinstance(schema, dict):
        for key, value in schema.items():
            if key in {"title", "description"} and isinstance(value, str):
                yield value
            elif key not in VALUES:
                yield from texts_in(value)


def read(name: str) -> dict[str, str]:
    return json.loads((SOURCES / name).read_text(encoding="utf-8"))  # type: ignore[no-any-return]


@pytest.mark.parametrize("language", LANGUAGES)
def test_titles_speak_every_language(language: str) -> None:
    known = {**read(f"{language}.json"), **read(f"{language}.words.json")}
    assert spoken() - set(known) == set()


def test_no_word_of_a_component_that_is_gone_is_left() -> None:
    from_airflow_or_mlflow = {
        *("accepted", "promote", "refuse", "rollback", "hand_move", "revert"),
        *("success", "upstream_failed", "teacher", "student"),
    }
    assert set(read("zh-CN.words.json")) - spoken() - from_airflow_or_mlflow == set()


@pytest.mark.parametrize("language", LANGUAGES)
def test_help_and_forms_speak_every_language(language: str) -> None:
    elsewhere = {*read(f"{language}.json"), *read(f"{language}.words.json")}
    file = f"{language}.components.json"
    needed, translated = schema_texts() - elsewhere, set(read(file))
    missing, left_over = sorted(needed - translated), sorted(translated - needed)
    assert missing == [], f"add their translation to plugins/canvas/src/i18n/{file}"
    assert left_over == [], f"take them out of plugins/canvas/src/i18n/{file}: unused, or in another file"


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_translation_keeps_names_and_numbers(language: str) -> None:
    texts = read(f"{language}.components.json").items()
    lost = {(english, code) for english, said in texts for code in CODE.findall(english) if code not in said}
    assert lost == set()


BROKEN = """
pipeline: A b
colour: red
schedule: "* *"
groups:
  g: {steps: [raw, rew], for_each: {x: [1, 1]}}
  raw: {steps: [raw]}
steps:
  raw: {component: delta_table, config: {}}
  raw2: {component: delta_tabel, config: {uri: x}}
  dataset:
    component: build_dataset
    inputs: {tabel: raw.table, table: row.table}
    config: {text: "", labels: [], split: 3, seed: x}
  teacher: {component: fine_tune, inputs: {dataset: raw.table}, config: {base_model: "${modle}", epochs: -1}}
  b: {component: build_dataset, inputs: {table: raw.tabel}, config: {text: a, labels: [x]}}
  verdict: {component: gate, inputs: {dataset: b.dataset, challenger: verdict.verdict}, config: {name: "N m"}}
  p: {component: promote, when: {raw: accepted, none: accepted}}
  e: {component: build_dataset, inputs: {table: [raw.table]}, config: {text: a, labels: [x]}}
  t: {component: fine_tune, inputs: {dataset: b.dataset}, config: {base_model: m, label: y}}
"""


def said_of(text: str) -> Iterator[str]:
    try:
        problems = check_text(text)[2]
    except PipelineError as error:
        problems = set(error.problems)
    for problem in problems:
        yield from problem.message.split("; ")


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("text", [BROKEN, BROKEN.replace("A b", "ab"), "- a", "pipeline: 3", "steps: {}"])
def test_what_is_wrong_with_a_pipeline_is_said_in_every_language(text: str, language: str) -> None:
    patterns = [
        re.compile("(.+?)".join(map(re.escape, english.split("{}"))), re.DOTALL)
        for english in read(f"{language}.server.json")
    ]
    sentences = set(said_of(text))
    assert len(sentences) > 1
    assert [said for said in sentences if not any(one.fullmatch(said) for one in patterns)] == []
