"""What ``modelmill components`` says, and the page that it writes."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
from pydantic import Field
from typer.testing import CliRunner

from modelmill.cli.components import component_text, components_page
from modelmill.cli.main import app
from modelmill.component import Config
from modelmill.errors import ConfigError
from modelmill.pipeline.catalogue import catalogue

PAGE = Path(__file__).parents[3] / "docs" / "components.md"


def shown(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["components", *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_the_page_says_what_the_declarations_say() -> None:
    remedy = "run: modelmill components --markdown > docs/components.md"
    assert PAGE.read_text() == components_page(catalogue().values()), remedy


def test_the_list_has_a_line_for_each_component() -> None:
    lines = shown().splitlines()
    assert [line.split()[0] for line in lines] == list(catalogue())


def test_a_component_is_described_with_every_field() -> None:
    text = shown("fine_tune")
    component = catalogue()["fine_tune"]
    assert text.startswith("fine_tune (Train): Fine-tune\n")
    assert "  to                       string; required\n" in shown("score_table")
    assert "  epochs                   number > 0, ≤ 1000; 2\n      Passes over the train split.\n" in text
    assert 'mode                     FullTuning or LastLayers or LoraTuning; {"kind": "full"}' in text
    assert "LoraTuning\n  Train low-rank additions" in text
    assert all(f"  {name} " in text for name in component.config.model_fields)
    assert "Inputs\n  dataset                  dataset\n" in text


def test_the_json_of_one_component_is_its_schema() -> None:
    described = json.loads(shown("prune", "--json"))
    assert list(described) == ["prune"]
    assert described["prune"]["inputs"] == {"dataset": "dataset", "model": "model", "teacher": "model"}
    assert described["prune"]["config"] == catalogue()["prune"].config.model_json_schema()


class Part(Config):
    """A part."""


class Whole(Config):
    """Defaults that a function makes, and formats of texts."""

    keep: list[str] = Field(default_factory=list, description="Columns.")
    part: Part = Field(default_factory=Part, description="A part.")
    to: str = Field(description="A table.")
    since: date | None = Field(None, description="A day.")


def test_a_default_that_a_function_makes_is_said() -> None:
    text = component_text(replace(catalogue()["delta_table"], config=Whole))
    assert "  keep                     list of string; []\n" in text
    assert "  part                     Part; {}\n" in text
    assert "  to                       string; required\n" in text
    assert "  since                    date; empty\n" in text


@pytest.mark.usefixtures("toy_components")
def test_a_component_of_another_distribution_is_described() -> None:
    assert "journal                  string; required" in shown("count")
    assert "### count" in shown("--markdown")


def test_an_unknown_component_is_named() -> None:
    with pytest.raises(ConfigError, match=r"must be known; got 'prunes'; did you mean 'prune'"):
        shown("prunes")
