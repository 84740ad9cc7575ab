"""Every view of the canvas, and how a browser comes to it in either language."""

from __future__ import annotations

import re
from collections.abc import Callable

from playwright.sync_api import Page, Route
from tests.e2e.answers import of_a_model, of_waiting_steps, question, route_answers

WORDS = ("sport", "trade", "weather")
TIME = "2026-11-29T00:00:00Z"
THEIRS = "pipeline: small\ndescription: theirs\nsteps: {}\n"
SAVED = {"number": 1, "author": "second", "time": TIME, "message": "of these tests", "etag": "e"}
SAVED |= {"digest": "d", "deleted": False}
CONFLICT = {
    "kind": "ConflictError",
    "message": "somebody has saved this pipeline",
    "rule": "nobody may have saved it meanwhile",
    "conflict": {"author": "second", "text": THEIRS, "etag": "e", "diff": ""},
}


def button(page: Page, *names: str) -> None:
    page.get_by_role("button", name=re.compile(f"^({'|'.join(names)})$")).first.click()


def canvas(page: Page) -> None:
    page.goto("/plugin/modelmill/canvas/small")
    page.locator("[data-step=dataset]").wait_for()


def gallery(page: Page) -> None:
    page.goto("/plugin/modelmill/home")
    begin = page.get_by_role("button", name=re.compile("^(Begin something new|新建)$"))
    begin.or_(page.locator(".mm-page section").first).first.wait_for()
    if begin.is_visible():
        begin.click()
    page.locator(".mm-page section").first.wait_for()


def tour(page: Page) -> None:
    page.goto("/plugin/modelmill/home")
    button(page, "Take the tour", "开始导览")
    page.get_by_role("dialog").wait_for()


def text_and_problems(page: Page) -> None:
    page.goto("/plugin/modelmill/new")
    page.locator("[data-component=delta_table]").press("Enter")
    page.locator("[data-step=delta_table]").wait_for()
    button(page, "Graph and text", "图与文本")
    page.locator(".mm-text textarea").wait_for()


def text_alone(page: Page) -> None:
    canvas(page)
    button(page, "Text", "文本")
    page.locator(".mm-text textarea").wait_for()


def run_that_asks(page: Page) -> None:
    page.goto("/plugin/modelmill/canvas/asks")
    page.locator("[data-step=raw]").wait_for()
    button(page, "Run", "运行")
    page.get_by_role("dialog").locator("#mm-run-day").fill("monday")


def saving(page: Page) -> None:
    canvas(page)
    page.locator(".mm-inspector textarea").first.fill("another description")
    button(page, "Save", "保存")
    page.get_by_role("dialog").locator(".mm-diff").wait_for()


def node_of_a_run(page: Page) -> None:
    canvas(page)
    page.locator(".mm-run-head select").select_option("two")
    page.locator("[data-step=raw] .mm-node-head").click()
    page.locator(".mm-result table").first.wait_for()


def edge_of_a_run(page: Page) -> None:
    canvas(page)
    page.locator('[data-id="raw.table>dataset.table"]').press("Enter")
    page.get_by_role("table", name=re.compile("First rows|前几行")).wait_for()


def node_with_more_room(page: Page) -> None:
    node_of_a_run(page)
    button(page, "Higher", "加高")


def step_that_asks(page: Page) -> None:
    route_answers(page, of_waiting_steps(WORDS))
    page.route("**/hitlDetails*", lambda route: route.fulfill(json=question(WORDS)))
    canvas(page)
    page.locator("[data-step=raw] .mm-badge").wait_for()
    page.locator("[data-step=raw] .mm-node-head").click()
    page.locator(".mm-run .mm-card").wait_for()


def step_that_waits_for_batches(page: Page) -> None:
    step_that_asks(page)
    page.locator("[data-step=dataset] .mm-node-line").get_by_text("batch sport").wait_for()
    # By keys: the step moves while the pane of the one before opens, and a click may miss it.
    page.locator(".react-flow__node", has=page.locator("[data-step=dataset]")).press("Enter")
    page.locator(".mm-log").wait_for()


def group(page: Page) -> None:
    page.goto("/plugin/modelmill/canvas/grouped")
    # By keys: an edge may run over the head of a frame.
    page.locator(".react-flow__node", has=page.locator("[data-frame=each_size]")).press("Enter")
    page.locator(".mm-inspector").get_by_text(re.compile("^(For each|循环)$")).first.wait_for()


def group_that_is_collapsed(page: Page) -> None:
    group(page)
    page.locator("[data-frame=each_size] .mm-frame-button").press("Enter")
    page.locator(".mm-collapsed").wait_for()


def tables_of_one_click(page: Page) -> None:
    page.goto("/plugin/modelmill/one-click")
    page.get_by_role("button", name="${data}/tickets").first.wait_for()


def decision(page: Page) -> None:
    page.goto("/plugin/modelmill/decisions?table=t&column=id&key=k")
    page.locator(".mm-explanation").wait_for()
    page.locator(".mm-more summary").click()


def comparison(page: Page) -> None:
    node_of_a_run(page)
    button(page, "Compare", "比较")
    page.get_by_role("dialog").locator("table").first.wait_for()


def one_click(page: Page) -> None:
    page.goto("/plugin/modelmill/one-click")
    page.locator(".mm-wizard input").first.fill("${data}/tickets")
    page.locator(".mm-wizard table").wait_for()


def model(page: Page) -> None:
    page.goto("/plugin/modelmill/models/m")
    page.locator(".mm-page textarea").fill("a text")
    button(page, "Ask", "提问")
    page.locator(".mm-two .mm-bar").first.wait_for()


def at(path: str) -> Callable[[Page], None]:
    def go(page: Page) -> None:
        page.goto(f"/plugin/modelmill/{path}")
        page.locator(".mm-root h1").first.wait_for()
        page.wait_for_load_state("networkidle")

    return go


def language_model_node(page: Page) -> None:
    page.goto("/plugin/modelmill/new")
    page.locator("[data-component=label_by_llm]").press("Enter")
    page.locator("[data-step=label_by_llm]").wait_for()
    page.locator(".mm-inspector [id^=form_label_by_llm_]").first.wait_for()


def what_a_run_will_do(page: Page) -> None:
    step = {"component": "fine_tune", "error": 0.1, "from_runs": 2}
    steps = [
        {**step, "step": "raw", "state": "reused", "seconds": None},
        {**step, "step": "dataset", "state": "known", "seconds": 70.0},
        {**step, "step": "verdict", "state": "unknown", "seconds": None},
        {**step, "step": "champion", "state": "skipped", "seconds": None},
    ]
    bills = [{"unit": "money", "expected": 0.0452, "error": 0.04, "at_most": 0.5}]
    plan = {"steps": steps, "seconds": 70.0, "cpu_seconds": 60.0, "bills": bills, "is_reuse_known": False}
    route_answers(page, {"/pipelines/small/forecast": plan})
    canvas(page)
    button(page, "What a run will do", "运行将做什么")
    page.get_by_role("dialog").locator("summary").click()


def versions(page: Page) -> None:
    route_answers(page, {"/pipelines/small/versions": [SAVED]})
    route_answers(page, {"/pipelines/small/versions/1": {**SAVED, "text": THEIRS}})
    canvas(page)
    button(page, "Versions", "版本")
    page.get_by_role("dialog").locator("ul button").first.click()
    page.get_by_role("dialog").locator(".mm-diff").wait_for()


def conflict(page: Page) -> None:
    def refuse(route: Route) -> None:
        if route.request.method == "PUT":
            route.fulfill(status=409, json=CONFLICT)
        else:
            route.fallback()

    page.route("**/modelmill/api/pipelines/small", refuse)
    saving(page)
    page.get_by_role("dialog").get_by_role("button", name=re.compile("^(Save|保存)$")).click()
    page.get_by_role(
        "button", name=re.compile("^(Merge both|合并双方|Take theirs|采用对方的)$")
    ).first.wait_for()


def older_text(page: Page) -> None:
    """What made a model, beside changes that are not saved."""
    canvas(page)
    page.locator(".mm-inspector textarea").first.fill("mine")
    # As the page of a model hands it over.
    page.evaluate("text => history.replaceState({...history.state, usr: {text}}, '')", THEIRS)
    page.reload()
    page.get_by_role("dialog").locator(".mm-diff").wait_for()


def pipelines_not_saved(page: Page) -> None:
    text_and_problems(page)
    at("pipelines")(page)
    page.get_by_role("region", name=re.compile("^(Not saved yet|尚未保存)$")).wait_for()


def rule_sets_not_saved(page: Page) -> None:
    at("rules")(page)
    page.get_by_role("link", name=re.compile("^(New rule set|新建规则集)$")).first.click()
    text = page.locator(".mm-card textarea").first
    text.fill("rule_set: one\nsignals: {offer: {kind: regex}}\nrules: 3\n")
    at("rules")(page)
    page.get_by_role("button", name=re.compile("^(Discard|放弃|丢弃) ?one$")).wait_for()


def menu(page: Page) -> None:
    canvas(page)
    page.locator("[data-step=dataset] .mm-node-head").click(button="right")
    page.locator(".mm-menu").wait_for()


def several_selected(page: Page) -> None:
    canvas(page)
    page.locator("[data-step=raw]").wait_for()
    page.locator(".mm-flow").press("Control+a")


def deleting(page: Page) -> None:
    at("pipelines")(page)
    page.get_by_role("button", name=re.compile("^(Delete|删除) small$")).click()
    page.get_by_role("dialog").wait_for()


def searching(page: Page) -> None:
    at("home")(page)
    page.locator("input[type=search]").fill("small")
    page.locator(".mm-search li").first.wait_for()


def one_click_refused(page: Page) -> None:
    page.goto("/plugin/modelmill/one-click")
    page.locator(".mm-wizard input").first.fill("${data}/nothing")
    page.get_by_role("alert").first.wait_for()


def tab_of_a_pipeline(page: Page) -> None:
    page.goto("/dags/small/plugin/modelmill_graph")
    page.locator(".mm-tab [data-step=dataset]").wait_for()


def tab_of_a_run(page: Page) -> None:
    tab_of_a_pipeline(page)
    page.locator("[data-step=raw] .mm-badge").wait_for()
    page.locator("[data-step=raw] .mm-node-head").click()
    page.locator(".mm-result table").first.wait_for()


def rolling_back(page: Page) -> None:
    known = of_a_model(WORDS)
    newest = known["/models/m"]
    second = {**newest["all_versions"][0], "version": 2}
    route_answers(page, {"/models/m": {**newest, "all_versions": [second, *newest["all_versions"]]}})
    at("models/m")(page)
    button(page, "Roll back", "回滚")
    page.get_by_role("dialog").wait_for()


def points_of_a_model(page: Page) -> None:
    known = of_a_model(WORDS)
    metrics = {
        f"{figure}/{name}": value
        for name, value in (("student", 0.8), ("teacher", 0.9))
        for figure in ("accuracy", "documents_per_second", "size_mb")
    }
    version = {**known["/models/m"]["all_versions"][0], "pipeline": "small", "dag_run": "two"}
    route_answers(
        page,
        {
            "/models/m": {**known["/models/m"], "all_versions": [version]},
            "/pipelines/small/runs/two/metrics": {
                "report": {"run_id": "r", "status": "s", "metrics": metrics}
            },
        },
    )
    at("models/m")(page)
    page.locator(".mm-plot circle").first.wait_for()


def no_model(page: Page) -> None:
    route_answers(page, {"/models": []})
    at("models")(page)


def new_rule_set(page: Page) -> None:
    at("rules")(page)
    page.locator(".mm-card textarea").first.fill(
        "rule_set: mail\nsignals: {offer: {kind: regex}}\nrules: 3\n"
    )
    page.locator(".mm-rule-problem").first.wait_for()


def signal(page: Page) -> None:
    at("rules/mail")(page)
    button(page, "Signal", "信号")
    page.get_by_role("dialog").locator("form, fieldset, .mm-field").first.wait_for()


def tried_rule_set(page: Page) -> None:
    at("rules/mail")(page)
    page.locator("#mm-rules-table").fill("${data}/tickets")
    button(page, "Try", "试运行")
    page.locator(".mm-explanation").first.wait_for()


def gate_of_a_rule_set(page: Page) -> None:
    at("rules/mail")(page)
    button(page, "Submit to the gate", "提交门禁")
    page.get_by_role("dialog").locator("#mm-gate-table").wait_for()


def decision_refused(page: Page) -> None:
    refusal = {"kind": "TableError", "message": "a table must be there; got 'nothing'", "rule": "r"}
    page.route("**/modelmill/api/decisions*", lambda route: route.fulfill(status=422, json=refusal))
    page.goto("/plugin/modelmill/decisions?table=nothing&column=id&key=k")
    page.get_by_role("alert").first.wait_for()


OFTEN: dict[str, Callable[[Page], None]] = {
    "home, a day on which everything happens": at("home"),
    "gallery": gallery,
    "tour": tour,
    "pipelines": at("pipelines"),
    "canvas with text and problems": text_and_problems,
    "saving": saving,
    "node": node_of_a_run,
    "node with more room": node_with_more_room,
    "edge": edge_of_a_run,
    "comparison": comparison,
    "group": group,
    "group that is collapsed": group_that_is_collapsed,
    "one click, its tables": tables_of_one_click,
    "one click": one_click,
    "model": model,
    "rule set": at("rules/mail"),
    "decisions": at("decisions"),
    "decision": decision,
    "labelling": at("labelling"),
    "queue": at("labelling/everybody"),
    "step that asks": step_that_asks,
    "step that waits for batches": step_that_waits_for_batches,
}

SELDOM: dict[str, Callable[[Page], None]] = {
    "language-model node": language_model_node,
    "what a run will do": what_a_run_will_do,
    "versions": versions,
    "conflict": conflict,
    "older text": older_text,
    "pipelines that are not saved": pipelines_not_saved,
    "rule sets that are not saved": rule_sets_not_saved,
    "text alone": text_alone,
    "run that asks for a parameter": run_that_asks,
    "menu of the selection": menu,
    "several steps": several_selected,
    "deleting": deleting,
    "searching": searching,
    "one click that is refused": one_click_refused,
    "tab of a pipeline": tab_of_a_pipeline,
    "tab of a run": tab_of_a_run,
    "points of a model": points_of_a_model,
    "rolling back": rolling_back,
    "no model": no_model,
    "new rule set": new_rule_set,
    "signal": signal,
    "tried rule set": tried_rule_set,
    "gate of a rule set": gate_of_a_rule_set,
    "decision that is refused": decision_refused,
}
"""Views that are looked at only with ``MODELMILL_LONG_TESTS``."""
