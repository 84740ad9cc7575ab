"""The canvas for everybody, and against those who write markup into a pipeline."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from playwright.sync_api import Dialog, Page

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
