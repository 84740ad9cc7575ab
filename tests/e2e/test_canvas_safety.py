"""The canvas for everybody, and against those who write markup into a pipeline."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from playwright.sync_api import Dialog, Page, Route

pytestmark = [pytest.mark.browser, pytest.mark.airflow]

PAYLOADS = (
    "<script>xss()</script>",
    "<img src=x onerror=xss()>",
    "<svg onload=xss()>",
    "<svg><script>xss()</script></svg>",
    "<iframe srcdoc='<script>parent.xss()</script>'></iframe>",
    "<iframe src=javascript:xss()></iframe>",
    "<a href=javascript:xss() autofocus onfocus=xss()>x</a>",
    "<body onload=xss()>",
    "<input autofocus onfocus=xss()>",
    "<details open ontoggle=xss()>",
    "<video><source onerror=xss()></video>",
    "<audio src=x onerror=xss()>",
    "<object data=javascript:xss()></object>",
    "<embed src=javascript:xss()>",
    "<marquee onstart=xss()>",
    "<math><mtext><img src=x onerror=xss()></mtext></math>",
    "<style>@keyframes x{}</style><p style='animation:x' onanimationstart=xss()>",
    "<link rel=stylesheet href=javascript:xss()>",
    "<meta http-equiv=refresh content='0;url=javascript:xss()'>",
    "<base href=javascript:xss()//>",
    "<form action=javascript:xss()><button autofocus>x</button></form>",
    '"><img src=x onerror=xss()>',
    "'><img src=x onerror=xss()>",
    "</textarea><img src=x onerror=xss()>",
    "</script><script>xss()</script>",
    "javascript:xss()",
    "data:text/html,<script>xss()</script>",
    "{{constructor.constructor('xss()')()}}",
    "${xss()}",
    "<template><img src=x onerror=xss()></template><img src onerror=xss()>",
)
PAGES = (
    "/plugin/modelmill/pipelines",
    "/plugin/modelmill/canvas/small",
    "/plugin/modelmill/one-click",
    "/plugin/modelmill/models",
    "/plugin/modelmill/rules",
    "/plugin/modelmill/decisions",
    "/plugin/modelmill/labelling",
)


def hostile() -> str:
    """A pipeline with every payload in seven places that the pages show."""
    steps = {
        f"s{number}": {
            "component": payload,
            "inputs": {"table": payload},
            "config": {"uri": payload, payload: payload},
            "when": {payload: "refused", f"t{number}": payload},
        }
        for number, payload in enumerate(PAYLOADS)
    }
    tables = {
        f"t{number}": {"component": "delta_table", "config": {"uri": payload}}
        for number, payload in enumerate(PAYLOADS)
    }
    groups = {
        payload: {"description": payload, "steps": [f"s{number}"], "for_each": {payload: [payload]}}
        for number, payload in enumerate(PAYLOADS)
    }
    params = {f"p{number}": {"default": text, "description": text} for number, text in enumerate(PAYLOADS)}
    document = {
        "pipeline": "hostile",
        "description": " ".join(PAYLOADS),
        "schedule": PAYLOADS[0],
        "tags": list(PAYLOADS),
        "params": params,
        "groups": groups,
        "steps": {**steps, **tables},
    }
    return yaml.safe_dump(document, sort_keys=False)


def test_no_payload_runs(page: Page, pipelines: Path) -> None:
    assert len(PAYLOADS) == 30
    calls = itertools.count()
    page.expose_function("xss", lambda: next(calls))

    def answer(dialog: Dialog) -> None:
        if dialog.type != "beforeunload":  # that one is the canvas's own: there is something to save
            next(calls)
        dialog.accept()

    page.on("dialog", answer)
    file = pipelines / "hostile.yaml"
    file.write_text(hostile())
    try:
        page.goto("/plugin/modelmill/pipelines")
        page.get_by_role("link", name="hostile").click()
        page.locator(".mm-node").first.wait_for()
        page.get_by_role("button", name="Graph and text").click()
        page.get_by_role("region", name="Problems").wait_for()
        page.get_by_role("button", name="Fit View").click()
        for name in ("s0", "s1", "t1", "t23"):
            page.locator(f".react-flow__node[data-id={name}]").evaluate("node => node.click()")
            page.get_by_label("Step", exact=True).wait_for()
        page.locator(".mm-frame-head .mm-node-id").first.click()
        page.get_by_label("Variable", exact=True).wait_for()
        # All at once, in each field that takes text.
        for field in page.locator(".mm-inspector input:visible, .mm-palette input:visible").all():
            field.fill(" ".join(PAYLOADS))
        page.get_by_role("toolbar").get_by_role("button", name="Save").click()
        page.get_by_role("dialog").get_by_label("Changes").wait_for()
        page.get_by_role("dialog").get_by_role("textbox").fill(PAYLOADS[1])
        page.get_by_role("dialog").get_by_role("button", name="Save", exact=True).click()
        page.get_by_role("alert").first.wait_for()
        page.goto("/plugin/modelmill/one-click")
        page.get_by_label("Path or URI").fill(PAYLOADS[1])
        page.get_by_role("alert").first.wait_for()
    finally:
        file.unlink()
    assert next(calls) == 0


ALL = " ".join(PAYLOADS)


def table_of_payloads() -> dict[str, Any]:
    """Rows of an edge: markup in names of columns, values, classes and types."""
    return {
        "uri": ALL,
        "version": 0,
        "rows": 30,
        "columns": [{"name": text, "type": text, "nullable": True} for text in PAYLOADS],
        "sample": [dict.fromkeys(PAYLOADS, other) for other in PAYLOADS[:5]],
        "balance": {ALL: [{"value": text, "rows": 1} for text in PAYLOADS]},
        "counted": 30,
        "step": "raw",
        "kind": "table",
        "rows_before": 10,
    }


def result_of_payloads() -> dict[str, Any]:
    """Each report that has a card of its own, and one that has none."""
    each = [{"name": text, "rows": 1, "precision": 0.5, "recall": 0.5, "model": ALL} for text in PAYLOADS]
    mistakes = [{"text": text, "label": text, "answer": text, "score": 0.5} for text in PAYLOADS]
    judged = {
        "name": ALL,
        "uri": "models:/m-1",
        "scores": [{"metric": ALL, "value": 0.5, "low": 0.4, "high": 0.6}],
    }
    check = {
        "check": ALL,
        "name": ALL,
        "metric": ALL,
        "unit": ALL,
        "challenger": 0.5,
        "sentence": ALL,
        "passed": True,
    }
    point = {"name": ALL, "quality": 0.5, "size_mb": 1, "speed_ratio": 2, "broken": list(PAYLOADS)}
    reports = [
        {
            "source": ALL,
            "rows_in": 9,
            "rows_out": 3,
            "reasons": dict.fromkeys(PAYLOADS, 1),
            "splits": {ALL: 3},
            "classes": {ALL: {text: {ALL: 1} for text in PAYLOADS}},
            "lengths": {ALL: {"1": 2}},
        },
        {
            "challenger": ALL,
            "champion": ALL,
            "passed": False,
            "note": ALL,
            "rows": 3,
            "checks": [check],
            "classes": each,
            "confusions": [[ALL, ALL, 1]],
            "mistakes": mistakes,
        },
        {"label": ALL, "rows": 3, "models": [judged], "baselines": [judged], "per_class": each},
        {"candidates": 2, "trained": 1, "points": [point]},
        {"alarms": list(PAYLOADS), "reasons": list(PAYLOADS)},
    ]
    return {
        "step": "raw",
        "tasks": ["raw"],
        "outputs": {"model": {"kind": "model", "uri": ALL}},
        "reports": [{"step": "raw", "file": ALL, "content": one} for one in reports],
        "metrics": dict.fromkeys(PAYLOADS, 0.5),
        "mlflow_url": "javascript:xss()",
        "texts_hidden": False,
    }


def run_of_payloads(run_id: str) -> dict[str, Any]:
    """A run that has ended, with markup in parameters, values and addresses."""
    run = {
        "run_id": run_id,
        "state": "success",
        "run_type": ALL,
        "user": ALL,
        "queued": "2026-11-29T00:00:00Z",
        "start": None,
        "end": None,
        "params": {text: f"{text} {run_id}" for text in PAYLOADS},
        "digest": ALL,
    }
    node = {
        "value": None,
        "state": "success",
        "try_number": 1,
        "max_tries": 1,
        "start": None,
        "end": None,
        "duration": 1.0,
        "outputs": {"table": {"kind": "table", "uri": f"{ALL} {run_id}", "version": 1}},
        "step_key": ALL,
        "mlflow_run": ALL,
        "mlflow_url": "javascript:xss()",
        "reused": False,
        "log_url": "javascript:xss()",
    }
    return {**run, "nodes": [{**node, "step": step, "of": step} for step in ("raw", "dataset")]}


def route_answers(page: Page, answers: dict[str, Any]) -> None:
    """Answer requests to some of the plugin's routes, by path; all others go to the server."""

    def answer(route: Route) -> None:
        path = urlsplit(route.request.url).path.partition("/modelmill/api")[2]
        if path in answers:
            route.fulfill(json=answers[path])
        else:
            route.continue_()

    page.route("**/modelmill/api/**", answer)


def test_no_payload_runs_in_what_a_run_shows(page: Page) -> None:
    """Edge, cards, comparison, ask box, labelling: the answers are this test's, the page is the real one."""
    calls = itertools.count()
    page.expose_function("xss", lambda: next(calls))
    page.on("dialog", lambda dialog: (next(calls), dialog.dismiss()))
    runs = [run_of_payloads(run_id) for run_id in ("two", "one")]
    answers: dict[str, Any] = {
        "/pipelines/small/runs": runs,
        "/pipelines/small/runs/two": runs[0],
        "/pipelines/small/runs/one": runs[1],
        "/pipelines/small/runs/two/metrics": {ALL: {"run_id": ALL, "status": ALL, "metrics": {ALL: 0.5}}},
        "/pipelines/small/runs/one/metrics": {ALL: {"run_id": ALL, "status": ALL, "metrics": {ALL: 0.7}}},
        "/pipelines/small/runs/two/steps/raw/outputs/table/rows": table_of_payloads(),
        "/pipelines/small/runs/two/steps/raw/result": result_of_payloads(),
        "/pipelines/small/runs/two/steps/dataset/result": result_of_payloads(),
        "/pipelines/small/runs/two/steps/raw/labelling": {"queue": {"queue": {"name": ALL}}, "added": 2},
        "/pipelines/small/runs/two/steps/raw/log": {"lines": [{"text": text} for text in PAYLOADS]},
    }

    route_answers(page, answers)
    page.goto("/plugin/modelmill/canvas/small")
    page.locator('[data-id="raw.table>dataset.table"]').press("Enter")
    page.get_by_role("table", name="First rows").wait_for()
    page.locator("select[aria-label=Run]").select_option("two")
    page.locator("[data-step=raw] .mm-node-head").click()
    page.get_by_role("table", name="Mistakes").wait_for()
    page.get_by_role("button", name="Send to labelling").first.click()
    page.get_by_role("link", name="Label them").wait_for()
    page.get_by_role("button", name="Compare", exact=True).click()
    page.get_by_role("dialog").get_by_role("table", name="Parameters").wait_for()
    page.keyboard.press("Escape")
    assert page.locator(".mm-result img, .mm-result svg, .mm-result script, .mm-dialog img").count() == 0
    assert page.locator("a[href^='javascript:']").count() == 0
    assert next(calls) == 0


def test_no_payload_runs_in_what_a_model_answers(page: Page) -> None:
    """The ask box and the nights of a model, with markup in each text that a registry could hold."""
    calls = itertools.count()
    page.expose_function("xss", lambda: next(calls))
    version = {"version": 1, "created": None, "role": ALL, "digest": ALL, "dataset": ALL, "parent": ALL}
    version |= {
        "run_id": ALL,
        "url": "javascript:xss()",
        "pipeline": ALL,
        "dag_run": ALL,
        "metrics": {ALL: 0.5},
    }
    model = {"name": "m", "champion": 1, "alias": 1, "versions": 1, "last": None}
    night = {"number": 1, "time": "2026-11-29T00:00:00Z", "action": ALL, "to_version": 1, "metric": ALL}
    answers: dict[str, Any] = {
        "/models": [model],
        "/models/m": {
            **model,
            "history": [],
            "all_versions": [version | {"pipeline_digest": ALL}],
            "may_roll_back": True,
        },
        "/models/m/nights": [night | {"unit": ALL, "value": 0.5, "low": 0.4, "high": 0.6}],
        "/models/m/answers": [
            {
                "version": 1,
                "answer": ALL,
                "score": 0.5,
                "classes": [{"name": text, "probability": 0.5} for text in PAYLOADS],
                "error": "",
            }
        ],
    }

    route_answers(page, answers)
    page.goto("/plugin/modelmill/models/m")
    box = page.get_by_role("region", name="Ask it")
    box.get_by_label("Text to ask about").fill(ALL)
    box.get_by_role("button", name="Ask", exact=True).click()
    box.get_by_text("Version 1:").wait_for()
    assert box.locator("img, script, iframe").count() == 0
    assert page.locator("a[href^='javascript:']").count() == 0
    assert next(calls) == 0


@pytest.mark.parametrize("page", ["light", "dark"], indirect=True)
def test_axe_finds_nothing_serious(page: Page, serious: Callable[[Page], list[Any]]) -> None:
    for path in PAGES:
        page.goto(path)
        page.locator(".mm-root h1").first.wait_for()
        if "/canvas/" in path:
            page.locator("[data-step=dataset] .mm-node-head").click()
            page.get_by_role("button", name="Graph and text").click()
        if path.endswith("/rules"):
            page.get_by_label("Rule set (YAML)").press("Control+Space")
        assert serious(page) == [], path
