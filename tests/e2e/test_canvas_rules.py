"""Rule sets in a browser: written with completion, saved, judged by a gate, run again, rolled back."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from modelmill.registry.tracking import tracking_client

pytestmark = [pytest.mark.browser, pytest.mark.airflow]

RUN_MILLISECONDS = 480_000
RULES = """\
rule_set: desks
key: ticket
signals:
  goal: {kind: phrases, column: message, phrases: [goal, team]}
default: other
rules:
"""


def champion(home: Path) -> str:
    client = tracking_client(f"sqlite:///{home}/mlflow.db")
    return str(client.get_model_version_by_alias("desks", "champion").version)


def wait_for_run(page: Page) -> None:
    state = page.locator(".mm-run-head .mm-badge")
    expect(state).to_have_text(re.compile("success|failed"), timeout=RUN_MILLISECONDS)
    assert state.inner_text() == "success", page.locator(".mm-run").inner_text()


def save(page: Page, button: str = "Save") -> None:
    page.get_by_label("Rule set", exact=True).get_by_role("button", name="Save").click()
    page.get_by_role("dialog").get_by_role("button", name=button, exact=True).click()


def submit(page: Page) -> None:
    page.get_by_role("button", name="Submit to the gate").click()


@pytest.mark.timeout(1500)
def test_a_rule_set_from_the_first_word_to_the_rollback(
    page: Page, home: Path, rules: Path, serious: Callable[[Page], list[Any]]
) -> None:
    page.goto("/plugin/modelmill/rules")
    text = page.get_by_label("Rule set (YAML)")
    text.fill(RULES)
    text.press("Control+End")
    text.press_sequentially("  - {name: sport, when: go")
    expect(page.get_by_role("option", name="goal")).to_be_visible()
    text.press("Enter")
    text.press_sequentially(", then: sport}")
    text.press("Enter")
    page.get_by_label("Table to try it on").fill("${data}/tickets")
    expect(page.get_by_text("valid", exact=True)).to_be_visible()
    page.get_by_role("button", name="Try").click()
    expect(page.get_by_label("Decisions")).to_contain_text("sport (sport)")
    save(page)
    expect(page).to_have_url(re.compile(r"/rules/desks$"))
    file = rules / "desks.yaml"
    assert "when: goal, then: sport" in file.read_text()

    text.fill(text.input_value().replace("phrases: [goal, team]", "phrases: [goal]"))
    file.write_text(file.read_text().replace("default: other", "default: others"))
    save(page)
    expect(page.get_by_role("dialog")).to_contain_text("has saved this rule set meanwhile")
    page.get_by_role("dialog").get_by_role("button", name="Save mine over it").click()
    expect(page.get_by_text("Saved.")).to_be_visible()
    assert "phrases: [goal]" in file.read_text()

    page.get_by_label("Table to try it on").fill("${data}/tickets")
    submit(page)
    dialog = page.get_by_role("dialog")
    assert dialog.get_by_label("Table with past rows").input_value() == "${data}/tickets"
    dialog.get_by_label("Largest share").fill("1")
    dialog.get_by_role("button", name="Make the pipeline and run it").click()
    wait_for_run(page)
    expect(page).to_have_url(re.compile(r"/canvas/desks_gate$"))
    assert champion(home) == "1"

    page.locator("[data-step=verdict] .mm-node-head").click()
    with page.expect_response(re.compile("/desks_gate/runs$")) as answer:
        page.get_by_role("button", name="Run from here").click()
    assert sorted(answer.value.json()["steps"]) == ["champion", "verdict"]
    wait_for_run(page)

    page.goto("/plugin/modelmill/rules/desks")
    text.fill(text.input_value().replace("then: sport}", "then: sports}"))
    save(page)
    expect(page.get_by_text("Saved.")).to_be_visible()
    submit(page)
    page.get_by_role("dialog").get_by_role("button", name="Run desks_gate").click()
    expect(page).to_have_url(re.compile(r"/canvas/desks_gate$"))
    expect(page.locator(".mm-run-head .mm-badge")).to_have_text(re.compile("queued|running"))
    wait_for_run(page)
    assert champion(home) == "2"

    page.goto("/plugin/modelmill/models/desks")
    page.get_by_role("button", name="Roll back").click()
    page.get_by_label("Why").fill("of this test")
    page.get_by_role("dialog").get_by_role("button", name="Roll back").click()
    expect(page.get_by_role("region", name="Ledger")).to_contain_text("of this test")
    assert champion(home) == "1"
    assert serious(page) == []
    page.goto("/plugin/modelmill/pipelines")
    expect(page.get_by_role("row", name="desks_gate")).to_contain_text("success")
    expect(page.get_by_role("row", name="desks_gate")).to_contain_text("version 1")
