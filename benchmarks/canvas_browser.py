"""A pipeline of 500 steps on the canvas, in chromium and a real Airflow; as it is, and in 100 groups.

    ./run python -m benchmarks.canvas_browser

First paint: from the navigation, with a warm cache, to the frame with the first step; the share that the
page of Airflow takes before the canvas's bundle is there is told beside it. Dragging: frames per second while
a step, or a group, is moved for two seconds. Wall-clock times: run it on a machine that does nothing else.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import tempfile
from pathlib import Path

import yaml
from canvas_validation import GROUP, STEPS, pipeline_of
from demo.servers import LocalAirflow
from playwright.sync_api import Browser, sync_playwright

ROOT = Path(__file__).parents[1]
ROUNDS = 7
WATCH = """
new MutationObserver((_, observer) => {
  if (!document.querySelector(".mm-node")) return;
  observer.disconnect();
  requestAnimationFrame(() => requestAnimationFrame(() => { window.firstStep = performance.now(); }));
}).observe(document, { childList: true, subtree: true });
"""
BUNDLE = """
() => performance.getEntriesByType("resource").find((item) => item.name.includes("canvas.js")).responseEnd
"""
FRAMES = """
() => new Promise((done) => {
  const times = [];
  const step = (now) => {
    times.push(now);
    if (now - times[0] < 2000) requestAnimationFrame(step);
    else done(times);
  };
  requestAnimationFrame(step);
})
"""


def grouped(text: str) -> str:
    """Return a pipeline with each dataset's models in a group.

    :param text: what :func:`pipeline_of` has made.
    :return: YAML.
    """
    document = yaml.safe_load(text)
    groups = {
        f"models_{number}": {
            "steps": [f"{step}_{number}" for step in ("teacher", "student", "exported")],
            "for_each": {"size": [1, 2]},
        }
        for number in range(STEPS // GROUP)
    }
    return str(yaml.safe_dump({**document, "pipeline": "grouped", "groups": groups}, sort_keys=False))


def measure(browser: Browser, airflow: LocalAirflow, pipeline: str, head: str) -> None:
    """Print the figures.

    :param browser: chromium.
    :param airflow: a server with the pipeline.
    :param pipeline: its name.
    :param head: selector of what is dragged.
    """
    print(f"{pipeline}: load of the machine {os.getloadavg()[0]:.1f}")
    context = browser.new_context(base_url=airflow.url, viewport={"width": 1600, "height": 1000})
    page = context.new_page()
    page.set_default_timeout(120_000)
    page.goto(airflow.url)
    page.fill("input[name=username]", airflow.user)
    page.fill("input[name=password]", airflow.password)
    page.click("button[type=submit]")
    page.get_by_role("link", name="modelmill").wait_for()
    page.add_init_script(WATCH)
    paints, bundles = [], []
    for number in range(ROUNDS + 1):  # the first one fills the cache
        page.goto(f"/plugin/modelmill/canvas/{pipeline}")
        page.wait_for_function("window.firstStep")
        if number:
            paints.append(page.evaluate("window.firstStep"))
            bundles.append(page.evaluate(BUNDLE))
    drawn = page.locator(".mm-node").count()
    print(f"{drawn} of {STEPS} steps drawn")
    paint, bundle = statistics.median(paints), statistics.median(bundles)
    print(f"first paint {paint:.0f} ms, of these Airflow {bundle:.0f} ms")
    print("first paint, each round:", [round(paint) for paint in paints])
    box = page.locator(head).first.bounding_box()
    assert box
    page.mouse.move(box["x"] + 20, box["y"] + 10)
    page.mouse.down()
    page.evaluate(f"window.frames2 = ({FRAMES.strip()})()")
    for number in range(200):
        page.mouse.move(box["x"] + 20 + number % 100 * 4, box["y"] + 10 + number % 50 * 4)
        if page.evaluate("Promise.race([window.frames2.then(() => true), false])"):
            break
    times = page.evaluate("window.frames2")
    page.mouse.up()
    print(f"dragging: {1000 * (len(times) - 1) / (times[-1] - times[0]):.0f} frames per second")
    context.close()


def main() -> None:
    """Start Airflow and chromium, and measure."""
    with tempfile.TemporaryDirectory(prefix="modelmill-canvas-") as folder:
        home = Path(folder)
        (home / "pipelines").mkdir()
        text = pipeline_of(STEPS)
        (home / "pipelines" / "large.yaml").write_text(text)
        (home / "pipelines" / "grouped.yaml").write_text(grouped(text))
        (home / "airflow").mkdir()
        (home / "airflow" / "passwords.json").write_text(json.dumps({"admin": "a password"}))
        environment = {"MODELMILL_HOME": str(home / "home"), "MODELMILL_PIPELINES": str(home / "pipelines")}
        with (
            LocalAirflow(home / "airflow", ROOT / "dags", environment=environment) as airflow,
            sync_playwright() as playwright,
        ):
            airflow.wait_ready(timeout=300)
            browser = playwright.chromium.launch(
                executable_path=shutil.which("chromium"), args=["--no-sandbox"]
            )
            measure(browser, airflow, "large", ".mm-node-head")
            measure(browser, airflow, "grouped", ".mm-frame-head")
            browser.close()


if __name__ == "__main__":
    main()
