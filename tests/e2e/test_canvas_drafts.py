"""What is typed and not saved yet: it is found again, and never overwrites what somebody else has saved."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, Route, expect

pytestmark = [pytest.mark.browser, pytest.mark.airflow]

CANVAS = "/plugin/modelmill/canvas"
RULES = """rule_set: mail
key: id
signals:
  offer: {kind: regex, column: text, pattern: "offer"}
rules:
  - {name: offers, when: offer, then: review}
default: keep
"""


def test_a_new_pipeline_is_found_again(page: Page) -> None:
    page.goto("/plugin/modelmill/pipelines")
    page.get_by_role("button", name="Empty pipeline").click()
    page.locator("[data-component=delta_table]").press("Enter")
    expect(page.locator("[data-step=delta_table]")).to_be_visible()
    page.get_by_role("link", name="Models").click()
    page.get_by_role("link", name="Pipelines", exact=True).click()
    drafts = page.get_by_role("region", name="Not saved yet")
    drafts.get_by_role("button", name="new_pipeline, 1 step", exact=True).click()
    expect(page.locator("[data-step=delta_table]")).to_be_visible()
    page.reload()
    expect(page.locator("[data-step=delta_table]")).to_be_visible()
    page.get_by_role("link", name="Pipelines", exact=True).click()
    drafts.get_by_role("button", name="Discard").click()
    expect(drafts).to_have_count(0)


def test_two_tabs_keep_a_draft_each(page: Page, pipelines: Path) -> None:
    other = page.context.new_page()
    texts = {page: "of one tab", other: "of the other"}
    for tab in texts:
        tab.goto(f"{CANVAS}/small")
        expect(tab.locator("[data-step=dataset]")).to_be_visible()
    for tab, text in texts.items():
        tab.get_by_label("Description").fill(text)
    expect(other.locator(".mm-notice")).to_contain_text("Yours are kept beside them")
    for tab, text in texts.items():
        tab.reload()
        expect(tab.get_by_label("Description")).to_have_value(text)
    page.get_by_role("link", name="Pipelines", exact=True).click()
    drafts = page.get_by_role("region", name="Not saved yet")
    drafts.get_by_role("button", name="small, ").first.click()
    expect(page.get_by_label("Description")).to_have_value("of the other")
    other.close()


def test_what_made_a_model_replaces_no_draft_unasked(page: Page, pipelines: Path) -> None:
    now = (pipelines / "small.yaml").read_text()
    older = now.replace("pipeline: small", "description: older\npipeline: small")
    description = page.get_by_label("Description")
    dialog = page.get_by_role("dialog")

    def hand_over() -> None:  # as the page of a model does
        page.evaluate("text => history.replaceState({...history.state, usr: {text}}, '')", older)
        page.reload()

    page.goto(f"{CANVAS}/small")
    hand_over()
    expect(description).to_have_value("older")
    expect(page.locator(".mm-notice")).to_contain_text("as it was then")
    description.fill("mine")
    page.reload()
    expect(description).to_have_value("mine")
    hand_over()
    expect(dialog).to_contain_text("You have changes that are not saved")
    expect(description).to_have_value("mine")
    page.reload()  # who does not answer is not asked again, and has lost nothing
    expect(description).to_have_value("mine")
    expect(dialog).to_have_count(0)
    hand_over()
    dialog.get_by_role("button", name="Replace mine").click()
    expect(description).to_have_value("older")
    page.get_by_role("button", name="Undo").click()
    expect(description).to_have_value("mine")


def test_what_is_not_yaml_yet_is_kept(page: Page, pipelines: Path) -> None:
    text = (pipelines / "small.yaml").read_text()
    (pipelines / "typed.yaml").write_text(text.replace("pipeline: small", "pipeline: typed"))
    page.goto(f"{CANVAS}/typed")
    page.locator("[data-step=dataset] .mm-node-head").click()
    page.locator(".mm-inspector summary").click()
    field = page.get_by_label("Label Kinds", exact=True)
    problems = page.get_by_role("region", name="Problems")
    field.fill("desk: {")
    expect(problems).to_contain_text("not part of the pipeline")
    page.reload()
    problems.get_by_role("button", name="dataset · label_kinds").click()
    expect(field).to_have_value("desk: {")
    page.get_by_label("Step", exact=True).fill("desks")
    page.get_by_label("Step", exact=True).press("Enter")
    expect(page.locator("[data-step=desks]")).to_be_visible()
    expect(field).to_have_value("desk: {")
    page.get_by_role("button", name="Save", exact=True).click()
    page.get_by_role("dialog").get_by_role("button", name="Save", exact=True).click()
    expect(page.locator(".mm-notice")).to_contain_text("Saved")
    assert "label_kinds" not in (pipelines / "typed.yaml").read_text()
    problems.get_by_role("button", name="desks · label_kinds").click()
    expect(field).to_have_value("desk: {")
    field.fill("desk: class")
    expect(problems).to_have_count(0)
    page.reload()
    page.locator("[data-step=desks] .mm-node-head").click()
    expect(field).to_have_value(re.compile("^desk: class\\s*$"))


def test_each_new_rule_set_is_found_again(page: Page, rules: Path) -> None:
    page.goto("/plugin/modelmill/rules")
    text = page.get_by_label("Rule set (YAML)")
    for name in ("one", "two"):
        page.get_by_role("link", name="New rule set").click()
        expect(text).to_have_value(re.compile("rule_set: new_rules"))
        text.fill(RULES.replace("mail", name))
    page.get_by_role("link", name="one not saved yet").click()
    expect(text).to_have_value(re.compile("rule_set: one"))
    page.reload()
    expect(text).to_have_value(re.compile("rule_set: one"))
    page.get_by_role("button", name="Discard one").click()
    expect(text).to_have_value(re.compile("rule_set: new_rules"))
    expect(page.get_by_role("link", name="one not saved yet")).to_have_count(0)
    expect(page.get_by_role("link", name="two not saved yet")).to_be_visible()


def test_an_old_draft_meets_what_was_saved_meanwhile(page: Page, pipelines: Path) -> None:
    file = pipelines / "small.yaml"
    page.goto(f"{CANVAS}/small")
    page.get_by_label("Description").fill("mine")
    page.goto("/plugin/modelmill/models")
    file.write_text(file.read_text().replace("labels: [desk]", "labels: [desk], key: ticket"))
    page.goto(f"{CANVAS}/small")
    expect(page.locator(".mm-notice")).to_contain_text("merged with theirs")
    expect(page.get_by_label("Description")).to_have_value("mine")
    page.get_by_role("button", name="Save", exact=True).click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_label("Changes")).not_to_contain_text("+key: ticket")
    expect(dialog.get_by_label("Changes")).to_contain_text("+description: mine")
    dialog.get_by_role("button", name="Save", exact=True).click()
    expect(page.locator(".mm-notice")).to_contain_text("Saved")
    assert "description: mine" in file.read_text()
    assert "key: ticket" in file.read_text()

    page.get_by_label("Description").fill("mine again")
    page.goto("/plugin/modelmill/models")
    file.write_text(file.read_text().replace("description: mine", "description: theirs"))
    page.goto(f"{CANVAS}/small")
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("has saved this pipeline meanwhile")
    expect(dialog.get_by_role("button", name="Merge both")).to_have_count(0)
    dialog.get_by_role("button", name="Keep editing").click()
    page.reload()  # a conflict that nobody has settled stays one
    dialog.get_by_role("button", name="Keep mine").click()
    expect(page.get_by_label("Description")).to_have_value("mine again")
    assert "description: theirs" in file.read_text()
    page.get_by_role("button", name="Undo").click()
    expect(page.get_by_label("Description")).to_have_value("theirs")


def test_a_rule_set_s_draft_meets_what_was_saved_meanwhile(page: Page, rules: Path) -> None:
    file = rules / "mail.yaml"
    file.write_text(RULES)
    page.goto("/plugin/modelmill/rules/mail")
    text = page.get_by_label("Rule set (YAML)")
    text.fill(RULES.replace("default: keep", "default: hold"))
    page.goto("/plugin/modelmill/models")
    file.write_text(RULES.replace("rule_set: mail", "description: theirs\nrule_set: mail"))
    page.goto("/plugin/modelmill/rules/mail")
    expect(page.get_by_role("status").first).to_contain_text("merged with theirs")
    expect(text).to_have_value(re.compile("description: theirs.*default: hold", re.DOTALL))
    page.goto("/plugin/modelmill/models")
    file.write_text(RULES.replace("default: keep", "default: drop"))
    page.goto("/plugin/modelmill/rules/mail")
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("has saved this rule set meanwhile")
    dialog.get_by_role("button", name="Take theirs").click()
    expect(text).to_have_value(re.compile("default: drop"))
    page.get_by_role("button", name="Undo").click()  # as the dialog says
    expect(text).to_have_value(re.compile("default: hold"))
    text.press("Control+Shift+Z")
    expect(text).to_have_value(re.compile("default: drop"))
    text.fill(RULES.replace("default: keep", "default: mine"))
    file.unlink()
    page.goto("/plugin/modelmill/rules")
    page.get_by_role("link", name="mail deleted; your text is still here").click()
    expect(text).to_have_value(re.compile("default: mine"))
    expect(page.get_by_role("status").first).to_contain_text("has been deleted. Your text is still here")


def test_the_reason_for_saving_a_rule_set_outlives_a_conflict(page: Page, rules: Path) -> None:
    file = rules / "mail.yaml"
    file.write_text(RULES)
    page.goto("/plugin/modelmill/rules/mail")
    page.get_by_label("Rule set (YAML)").fill(RULES.replace("default: keep", "default: mine"))
    file.write_text(RULES.replace("default: keep", "default: theirs"))
    page.get_by_label("Rule set", exact=True).get_by_role("button", name="Save").click()
    page.get_by_label("Why (for the list of versions)").fill("a good reason")
    page.get_by_role("dialog").get_by_role("button", name="Save", exact=True).click()
    with page.expect_request(lambda request: request.method == "PUT") as sent:
        page.get_by_role("dialog").get_by_role("button", name="Save mine over it").click()
    assert sent.value.post_data_json["message"] == "a good reason"
    expect(page.get_by_text("Saved.")).to_be_visible()


def test_a_save_that_is_answered_late_touches_nothing_else(page: Page, pipelines: Path, rules: Path) -> None:
    page.on("dialog", lambda dialog: dialog.accept())
    (pipelines / "other.yaml").write_text((pipelines / "small.yaml").read_text().replace("small", "other"))
    waiting: list[Route] = []
    page.route("**/api/pipelines/small", lambda route: hold(route, waiting))
    page.goto(f"{CANVAS}/small")
    page.get_by_label("Description").fill("saved late")
    page.get_by_role("button", name="Save", exact=True).click()
    page.get_by_role("dialog").get_by_role("button", name="Save", exact=True).click()
    page.keyboard.press("Escape")
    page.get_by_role("link", name="Pipelines", exact=True).click()
    page.get_by_role("link", name="other", exact=True).click()
    expect(page.locator(".mm-name")).to_have_text("other")
    page.get_by_label("Description").fill("of the other")
    answer(page, waiting)
    assert "saved late" in (pipelines / "small.yaml").read_text()
    expect(page).to_have_url(re.compile("/canvas/other$"))
    page.reload()
    expect(page.get_by_label("Description")).to_have_value("of the other")
    page.goto(f"{CANVAS}/small")
    expect(page.get_by_label("Description")).to_have_value("saved late")
    expect(page.get_by_text("not saved", exact=True)).to_have_count(0)

    (rules / "late.yaml").write_text(RULES.replace("mail", "late"))
    page.route("**/api/rule-sets/late", lambda route: hold(route, waiting))
    page.goto("/plugin/modelmill/rules/late")
    text = page.get_by_label("Rule set (YAML)")
    text.fill(RULES.replace("mail", "late").replace("keep", "saved"))
    page.get_by_label("Rule set", exact=True).get_by_role("button", name="Save").click()
    page.get_by_role("dialog").get_by_role("button", name="Save", exact=True).click()
    page.keyboard.press("Escape")
    text.fill(RULES.replace("mail", "late").replace("keep", "typed_since"))
    answer(page, waiting)
    assert "default: saved" in (rules / "late.yaml").read_text()
    page.reload()
    expect(text).to_have_value(re.compile("default: typed_since"))


def hold(route: Route, waiting: list[Route]) -> None:
    """Let a save wait; all other requests go on."""
    if route.request.method == "PUT":
        waiting.append(route)
    else:
        route.continue_()


def answer(page: Page, waiting: list[Route]) -> None:
    """Let the save that waits go on, and wait for its answer."""
    with page.expect_response(lambda response: response.request.method == "PUT"):
        waiting.pop().continue_()
    page.wait_for_timeout(200)


def test_one_click_names_the_pipeline_after_a_path_that_is_typed(page: Page) -> None:
    page.goto("/plugin/modelmill/one-click")
    page.get_by_label("Path or URI").press_sequentially("${data}/tickets")
    name = page.get_by_label("Name of the pipeline")
    expect(name).to_have_value("tickets")
    name.fill("desks")
    page.get_by_label("Path or URI").fill("${data}/others")
    expect(name).to_have_value("desks")


def test_a_file_becomes_a_table_to_learn_from(page: Page, home: Path) -> None:
    page.goto("/plugin/modelmill/one-click")
    file = page.get_by_label("Or a CSV file of yours")
    page.add_init_script("localStorage.setItem('i18nextLng', 'zh-CN')")
    file.set_input_files({"name": "My mail.csv", "mimeType": "text/csv", "buffer": b"text,desk\none\n"})
    expect(page.get_by_role("alert")).to_contain_text("line 2: a row has as many cells as the first line, 2")
    file.set_input_files(
        {"name": "My mail.csv", "mimeType": "text/csv", "buffer": b"text,desk\none,a\ntwo,b\n"}
    )
    expect(page.get_by_label("Path or URI")).to_have_value("${data}/uploads/my_mail")
    expect(page.get_by_label("Name of the pipeline")).to_have_value("my_mail")
    expect(page.get_by_text("Version 0 · 2 rows")).to_be_visible()
    page.get_by_label("Label", exact=True).select_option("desk")
    page.reload()  # from here on in Chinese
    file = page.locator("#mm-upload")
    file.set_input_files({"name": "My mail.csv", "mimeType": "text/csv", "buffer": b"text\none\n"})
    expect(page.get_by_role("alert")).to_contain_text("文件会成为一张新表")


def test_an_ended_session_is_said(page: Page) -> None:
    page.route("**/modelmill/api/models", lambda route: route.fulfill(status=401, json={"detail": "no"}))
    page.goto("/plugin/modelmill/models")
    expect(page.get_by_role("alert")).to_contain_text("Your session has ended: log in again in another tab")


def test_a_second_label_is_added_in_the_form(page: Page) -> None:
    page.goto(f"{CANVAS}/small")
    page.locator("[data-step=dataset] .mm-node-head").click()
    page.get_by_role("button", name="Add to Labels").click()
    page.locator("#form_dataset_labels_1").fill("second")
    expect(page.locator(".mm-notice-bad")).to_have_count(0)
    page.get_by_label("Text", exact=True).first.click()
    text = page.get_by_label("Text of the pipeline (YAML)")
    expect(text).to_have_value(re.compile(r'labels: \[desk, "second"\]'))


def test_what_is_typed_is_shown_while_it_is_not_whole(page: Page) -> None:
    page.goto(f"{CANVAS}/small")
    page.get_by_label("Name of a new parameter").fill("rate")
    page.get_by_label("Name of a new parameter").press("Enter")
    rate = page.locator("#mm-param-rate")
    rate.press_sequentially("-0.05")
    expect(rate).to_have_value("-0.05")
    page.locator("[data-step=dataset] .mm-node-head").click()
    kinds = page.locator("#form_dataset_label_kinds")
    if not kinds.is_visible():
        page.get_by_label("Properties").locator("summary").first.click()
    kinds.fill("desk: {")
    page.locator("[data-step=raw] .mm-node-head").click()
    expect(page.locator("#form_raw_uri")).to_be_visible()
    page.locator("[data-step=dataset] .mm-node-head").click()
    if not kinds.is_visible():
        page.get_by_label("Properties").locator("summary").first.click()
    expect(kinds).to_have_value("desk: {")
    expect(kinds).to_have_attribute("aria-invalid", "true")
    kinds.fill("desk: 2026-01-01")
    page.get_by_label("Text", exact=True).first.click()
    text = page.get_by_label("Text of the pipeline (YAML)")
    expect(text).to_have_value(re.compile(r'label_kinds: \{desk: "2026-01-01"\}'))
    expect(text).to_have_value(re.compile(r"rate: \{default: -0.05\}|rate:\n +default: -0.05"))


def test_a_problem_leads_to_its_field(page: Page) -> None:
    page.goto("/plugin/modelmill/new")
    page.locator("[data-component=delta_table]").press("Enter")
    problems = page.get_by_role("region", name="Problems")
    problems.get_by_role("button", name="delta_table · uri").click()
    expect(problems).to_contain_text("'uri' is required; add it")
    expect(page.locator("#form_delta_table_uri")).to_be_focused()


def test_a_parameter_of_the_deployment_needs_no_second_place(page: Page) -> None:
    page.goto("/plugin/modelmill/new")
    page.locator("[data-component=delta_table]").press("Enter")
    page.locator("#form_delta_table_uri").fill("${data}/tickets")
    expect(page.locator(".mm-toolbar")).to_contain_text("valid")
    page.get_by_label("Text", exact=True).first.click()
    text = page.get_by_label("Text of the pipeline (YAML)")
    expect(text).to_have_value(re.compile(r"params:\n  data: \{\}"))


@pytest.mark.parametrize(("width", "height"), [(390, 844), (720, 450)])  # a telephone; 1440 x 900 at 200 %
def test_a_narrow_window_has_everything(
    width: int, height: int, page: Page, rules: Path, serious: Callable[[Page], list[Any]]
) -> None:
    page.set_viewport_size({"width": width, "height": height})
    page.goto(f"{CANVAS}/small")
    expect(page.locator("[data-step=dataset]")).to_be_visible()
    box = page.locator(".mm-graph").bounding_box()
    assert box
    assert box["height"] >= 300
    page.get_by_label("Description").fill("typed in a narrow window")
    expect(page.get_by_role("toolbar").get_by_role("button", name="Save")).to_be_enabled()
    assert hidden_width(page) <= 1
    assert serious(page) == []
    page.get_by_role("button", name="Undo").click()
    (rules / "mail.yaml").write_text(RULES)
    page.goto("/plugin/modelmill/rules/mail")
    expect(page.get_by_label("Rule set (YAML)")).to_be_visible()
    page.get_by_label("Table to try it on").fill("${data}/tickets")
    expect(page.get_by_role("button", name="Try")).to_be_visible()
    assert hidden_width(page) <= 1
    assert serious(page) == []


def hidden_width(page: Page) -> int:
    """Return how many pixels of the page stand outside of the window, where nobody can scroll to."""
    widths = "({scrollWidth, clientWidth}) => scrollWidth - clientWidth"
    return int(page.locator(".mm-root").evaluate(widths))
