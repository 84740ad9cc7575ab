"""Words of Python's that the canvas shows in other languages: none is forgotten, none is left over."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from modelmill.pipeline.catalogue import catalogue
from modelmill.pipeline.templates import TEMPLATES

SOURCES = Path(__file__).parents[2] / "plugins" / "canvas" / "src" / "i18n"


def spoken() -> set[str]:
    """Headings and titles of all components, and titles of templates, as they are now."""
    titles = {text for item in catalogue().values() for text in (item.title, item.group)}
    return titles | {template.title for template in TEMPLATES.values()}


def read(name: str) -> dict[str, str]:
    return json.loads((SOURCES / name).read_text(encoding="utf-8"))  # type: ignore[no-any-return]


@pytest.mark.parametrize("language", ["zh-CN"])
def test_titles_speak_every_language(language: str) -> None:
    known = {**read(f"{language}.json"), **read(f"{language}.words.json")}
    assert spoken() - set(known) == set()


def test_no_word_of_a_component_that_is_gone_is_left() -> None:
    from_airflow_or_mlflow = {
        *("accepted", "promote", "refuse", "rollback", "hand_move", "revert"),
        *("success", "upstream_failed", "teacher", "student"),
    }
    assert set(read("zh-CN.words.json")) - spoken() - from_airflow_or_mlflow == set()
