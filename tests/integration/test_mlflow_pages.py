"""Links to MLflow's UI, in a browser that has never been there."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from demo.servers import LocalMlflow
from playwright.sync_api import expect, sync_playwright

from modelmill.registry.tracking import experiment_id, open_run, run_url, tracking_client
from modelmill_operators.links import version_url

CHROMIUM = shutil.which("chromium")
PATIENCE = 60_000
"""Milliseconds that the browser waits for something to appear: the machine may be busy."""


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium; on Debian: apt-get install chromium")
def test_the_pages_of_runs_and_models_have_the_menu_of_model_training(tmp_path: Path) -> None:
    with LocalMlflow(tmp_path / "mlflow") as mlflow:
        mlflow.wait_ready(timeout=120)
        client = tracking_client(mlflow.url)
        run = open_run(client, experiment_id(client, "topics"), "a" * 64, name="step", tags={})
        run.log_json({}, "gate/verdict.json")
        client.create_registered_model("topic")
        client.create_model_version("topic", f"runs:/{run.run_id}/gate", run.run_id)
        report = run_url(mlflow.url, run.experiment_id, run.run_id, artifact="gate/verdict.json")
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            page = browser.new_page()
            # What it asks of other servers is not waited for.
            page.route(lambda url: not url.startswith(mlflow.url), lambda route: route.abort())
            for url in (version_url(mlflow.url, "models:/topic/1"), report, run.url):
                page.goto("about:blank")  # else only the fragment changes
                page.goto(url, wait_until="commit")
                menu = page.get_by_role("link", name="Model registry")
                expect(menu).to_be_visible(timeout=PATIENCE)
                expect(page.get_by_role("link", name="Prompts")).to_have_count(0)
            above = page.locator(f"a[href$='/experiments/{run.experiment_id}/runs']").first
            above.click(timeout=PATIENCE)
            expect(page).to_have_url(re.compile(r"/experiments/\d+/runs(\?|$)"), timeout=PATIENCE)
            expect(page.get_by_role("link", name="step", exact=True)).to_be_visible(timeout=PATIENCE)
            browser.close()
