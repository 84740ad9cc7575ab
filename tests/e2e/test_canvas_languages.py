"""The page speaks the language that Airflow's own page speaks, and changes with it."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

pytestmark = [pytest.mark.browser, pytest.mark.airflow]

CHINESE = "localStorage.setItem('i18nextLng', 'zh-CN')"
ADDRESSES = ("home", "pipelines", "models", "rules", "decisions", "one-click", "canvas/small")
# Help and forms of components name products (Hugging Face): a text of theirs is Chinese if some of it is.
LATIN_LETTERS = """() => {
    const own = new Set(['INPUT', 'TEXTAREA', 'CODE', 'KBD', 'PRE', 'STYLE', 'SCRIPT']);
    const walker = document.createTreeWalker(document.querySelector('.mm-root'), NodeFilter.SHOW_TEXT);
    const texts = [];
    while (walker.nextNode()) {
        const element = walker.currentNode.parentElement;
        const text = walker.currentNode.textContent.trim();
        const isOfComponent = element.closest('.mm-palette-help, .mm-more .mm-field');
        if (isOfComponent && /\\p{Script=Han}/u.test(text)) continue;
        if (!own.has(element.tagName)) texts.push(text);
    }
    return texts.filter((text) => /[A-Za-z]{3,} [A-Za-z]{2,}/.test(text));
}"""


def test_each_page_is_chinese_where_airflow_is(page: Page) -> None:
    page.add_init_script(CHINESE)
    for address in ADDRESSES:
        page.goto(f"/plugin/modelmill/{address}")
        expect(page.get_by_role("link", name="规则集", exact=True)).to_be_visible()
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        page.wait_for_load_state("networkidle")
        assert page.evaluate(LATIN_LETTERS) == [], address
    expect(page.get_by_role("complementary", name="组件")).to_contain_text("构建数据集")


def test_the_page_changes_with_the_language_that_is_chosen_in_airflow(page: Page) -> None:
    page.goto("/plugin/modelmill/pipelines")
    expect(page.get_by_role("heading", name="Pipelines")).to_be_visible()
    # What Airflow's own menu does: it keeps the choice, and names the language on the page.
    page.evaluate(f"{CHINESE}; document.documentElement.setAttribute('lang', 'zh-CN')")
    expect(page.get_by_role("heading", name="流水线")).to_be_visible()
    page.evaluate(
        "localStorage.setItem('i18nextLng', 'en'); document.documentElement.setAttribute('lang', 'en')"
    )
    expect(page.get_by_role("heading", name="Pipelines")).to_be_visible()
