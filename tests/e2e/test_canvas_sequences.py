"""Two people in two browsers: seeded random sequences of edit, close, save, reopen, revert, beside a model.

The model says, after each act, which text stands in the editor and what is saved. It loses nothing: what is
saved over was shown to the person who saves, and what is typed stays in the editor, its history, its draft or
a version. The page has to do exactly the same. ``MODELMILL_LONG_TESTS`` plays a hundred sequences of each
kind, with ``MODELMILL_SEQUENCES=92:100`` those from one number on, up to another.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import pytest
from demo.servers import LocalAirflow
from playwright.sync_api import Browser, Locator, Page, expect

from modelmill.pipeline.pipeline_store import PipelineStore
from modelmill.rules.lifecycle.rule_set_store import RuleSetStore

pytestmark = [pytest.mark.browser, pytest.mark.airflow]

PLUGIN = "/plugin/modelmill"
NAME = "pair"
SLOTS = 4
FEW = 2
MANY = 100
SEED = 20261129

Words = tuple[str, ...]
"""A document: what stands in each of its slots. Slots are apart, so that edits of two never touch."""

COMMENTS = "".join(f"# slot {slot}: {{{slot}}}\n#\n#\n" for slot in range(SLOTS))
PIPELINE = (
    f"pipeline: {NAME}\n{COMMENTS}description: {{{SLOTS}}}\n"
    "steps:\n  raw: {{component: delta_table, config: {{uri: /t}}}}\n"
)
RULES = (
    f"rule_set: {NAME}\n{COMMENTS}description: {{{SLOTS}}}\n"
    "key: id\n"
    'signals:\n  offer: {{kind: regex, column: text, pattern: "offer"}}\n'
    "rules:\n  - {{name: offers, when: offer, then: review}}\ndefault: keep\n"
)


def merged(base: Words, mine: Words, theirs: Words) -> Words | None:
    """Merge two edits of a document slot by slot; None if both change one slot to different words."""
    slots = list(zip(base, mine, theirs, strict=True))
    if any(old != mine != theirs != old for old, mine, theirs in slots):
        return None
    return tuple(theirs if mine == old else mine for old, mine, theirs in slots)


@dataclass
class Editor:
    """What a person has in front of them: the model."""

    base: Words = ()
    present: Words = ()
    past: list[Words] = field(default_factory=list)
    draft: tuple[Words, Words] | None = None
    """A text that is not saved, and what it was made from."""
    shown: set[str] = field(default_factory=set)
    """Every word that this person has seen."""

    def open(self, saved: Words) -> str:
        """Open the document; return what the page says of it."""
        state = "saved"
        text = base = saved
        if self.draft is not None and self.draft[0] != saved:
            text, before = self.draft
            both = merged(before, text, saved)
            if before == saved:
                state = "restored"
            elif both is None:
                state, base = "conflict", before
            else:
                state, text = ("saved" if both == saved else "merged"), both
        self.base, self.present, self.past = base, text, [base] if text != base else []
        self.keep()
        return state

    def put(self, text: Words) -> None:
        """Put a text into the editor."""
        if text != self.present:
            self.past.append(self.present)
            self.present = text
        self.keep()

    def rebase(self, newer: Words, text: Words) -> None:
        """Go on with a text over a newer saved one."""
        self.base = newer
        self.put(newer)
        self.put(text)

    def undone(self, text: Words) -> None:
        """Take a step back to a text; quick edits of the same are one step."""
        assert text in self.past, "undo leads to a text that this person had"
        while self.past.pop() != text:
            pass
        self.present = text
        self.keep()

    def keep(self) -> None:
        """Keep what is not saved, as a browser does."""
        self.draft = None if self.present == self.base else (self.present, self.base)
        self.shown |= set(self.present)


@dataclass
class Desk:
    """A page of one kind of document: where its parts are."""

    kind: str
    template: str
    store: PipelineStore | RuleSetStore
    address: str
    listed: str
    label: str

    def text(self, words: Words) -> str:
        return self.template.format(*words)

    def words(self, text: str) -> Words:
        found = re.search(self.template_pattern(), text)
        assert found, text
        return found.groups()

    def template_pattern(self) -> str:
        pattern = re.escape(self.template.format(*(f"WORD{slot}" for slot in range(SLOTS + 1))))
        return re.sub(r"WORD\d", r"(\\w+)", rf"\A{pattern}\Z")

    def area(self, page: Page) -> Locator:
        return page.get_by_label(self.label)

    def bar(self, page: Page) -> Locator:
        return page.locator(".mm-toolbar" if self.kind == "pipeline" else ".mm-card[aria-label='Rule set']")


@dataclass
class Person:
    """Somebody with a browser, beside the model of what they should see."""

    page: Page
    editor: Editor
    number: int


class Sequence:
    """One sequence: acts on two pages and on their models."""

    def __init__(self, desk: Desk, pages: tuple[Page, Page], seed: int) -> None:
        self.desk = desk
        self.random = Random(seed)
        self.typed = 0
        self.counts = {"saves": 0, "conflicts": 0, "merges": 0}
        self.saved: Words = tuple(f"begin{slot}" for slot in range(SLOTS + 1))
        stored = desk.store.read(NAME).etag if NAME in desk.store.documents() else None
        desk.store.save(NAME, desk.text(self.saved), expected=stored, author="begin", message="")
        self.first = len(desk.store.versions(NAME))
        self.people = [Person(page, Editor(), number) for number, page in enumerate(pages)]
        for person in self.people:
            if PLUGIN not in person.page.url:
                person.page.goto(f"{PLUGIN}/models")
            self.leave(person)
            person.page.evaluate("localStorage.clear()")
            person.page.get_by_role("link", name=desk.listed, exact=True).click()
            person.page.get_by_role("link", name=re.compile(rf"^{NAME}")).click()
            self.opened(person)

    def play(self, acts: int) -> None:
        weights = {
            self.edit: 4,
            self.describe: 1,
            self.undo: 1,
            self.save: 4,
            self.reopen: 2,
            self.revert: 1,
        }
        for act in self.random.choices(list(weights), list(weights.values()), k=acts):
            person = self.random.choice(self.people)
            act(person)
            self.look(person)
        for person in self.people:
            self.reopen(person)
            self.look(person)
        texts = {version.text for version in self.desk.store.versions(NAME)[self.first - 1 :]}
        assert self.desk.text(self.saved) in texts

    def look(self, person: Person) -> None:
        """What is in front of the person is what the model says; so is what is saved."""
        expect(self.desk.area(person.page)).to_have_value(self.desk.text(person.editor.present))
        assert self.desk.store.read(NAME).file.text == self.desk.text(self.saved)

    def word(self) -> str:
        self.typed += 1
        return f"typed{self.typed}"

    def edit(self, person: Person) -> None:
        slot = self.random.randrange(SLOTS + 1)
        text = with_word(person.editor.present, slot, self.word())
        self.desk.area(person.page).fill(self.desk.text(text))
        person.editor.put(text)

    def describe(self, person: Person) -> None:
        if self.desk.kind == "pipeline":
            text = with_word(person.editor.present, SLOTS, self.word())
            person.page.get_by_label("Description").fill(text[SLOTS])
            person.editor.put(text)
        else:
            self.edit(person)

    def undo(self, person: Person) -> None:
        button = self.desk.bar(person.page).get_by_role("button", name="Undo")
        if not person.editor.past:
            expect(button).to_be_disabled()
            return
        if button.is_disabled():  # all that was typed was one step, and that was taken back
            person.editor.past.clear()
            return
        before = person.editor.present
        button.click()
        person.editor.undone(self.desk.words(self.desk.area(person.page).input_value()))
        if self.random.random() < 0.5:
            self.desk.bar(person.page).get_by_role("button", name="Redo").click()
            person.editor.put(before)

    def revert(self, person: Person) -> None:
        versions = self.desk.store.versions(NAME)
        number = self.random.randrange(self.first, len(versions) + 1)
        self.desk.bar(person.page).get_by_role("button", name="Versions").click()
        dialog = person.page.get_by_role("dialog")
        dialog.get_by_role("list", name="Versions").get_by_role("button").nth(len(versions) - number).click()
        back = dialog.get_by_role("button", name=f"Go back to version {number}")
        back.wait_for()
        text = self.desk.words(versions[number - 1].text)
        if text == person.editor.present:
            expect(back).to_be_disabled()
            person.page.keyboard.press("Escape")
        else:
            back.click()
        expect(dialog).to_have_count(0)
        person.editor.put(text)

    def save(self, person: Person) -> None:
        editor = person.editor
        button = self.desk.bar(person.page).get_by_role("button", name="Save")
        if editor.present == editor.base:
            expect(button).to_be_disabled()
            return
        button.click()
        person.page.get_by_role("dialog").get_by_role("button", name="Save", exact=True).click()
        if editor.base == self.saved:
            self.written(person)
        else:
            self.settle(person, is_saving=True)

    def written(self, person: Person) -> None:
        """A save went through: nobody's words are lost that this person has not seen."""
        expect(person.page.get_by_role("dialog")).to_have_count(0)
        editor = person.editor
        assert set(self.saved) - set(editor.present) <= editor.shown
        self.saved = editor.base = editor.present
        editor.keep()
        self.counts["saves"] += 1

    def settle(self, person: Person, *, is_saving: bool) -> None:
        """A conflict is shown, with their words beside the person's own, and the person chooses."""
        self.counts["conflicts"] += 1
        editor, dialog = person.editor, person.page.get_by_role("dialog")
        expect(dialog).to_contain_text("has saved this")
        if self.saved != editor.present:
            for word in set(self.saved) - set(editor.present):
                expect(dialog.get_by_label("Changes")).to_contain_text(word)
        editor.shown |= set(self.saved)
        both = merged(editor.base, editor.present, self.saved)
        mine = "Save mine over it" if is_saving else "Keep mine"
        choice = self.random.choice(["Keep editing", "Take theirs", mine, "Merge both" if both else mine])
        dialog.get_by_role("button", name=choice).click()
        if choice == "Save mine over it":
            self.written(person)
        elif choice == "Keep mine":
            editor.rebase(self.saved, editor.present)
        elif choice == "Take theirs":
            editor.rebase(self.saved, self.saved)
        elif both is not None and choice == "Merge both":
            editor.rebase(self.saved, both)
        expect(dialog).to_have_count(0)

    def reopen(self, person: Person) -> None:
        """Close the page, the tab, or the page inside of it; then open it again."""
        how = self.random.choice(["leave", "leave", "reload", "address"])
        if how == "leave":
            self.leave(person)
            person.page.go_back()
        elif how == "reload":
            person.page.reload()
        else:
            person.page.goto("about:blank")
            person.page.goto(f"{PLUGIN}/{self.desk.address}/{NAME}")
        self.opened(person)

    def leave(self, person: Person) -> None:
        """Go to another page inside of the page."""
        person.page.get_by_role("link", name="Models", exact=True).click()
        person.page.get_by_role("heading", name="Models", exact=True).wait_for()

    def opened(self, person: Person) -> None:
        page = person.page
        state = person.editor.open(self.saved)
        self.desk.bar(page).wait_for()
        if state == "conflict":
            self.settle(person, is_saving=False)
        elif state == "merged":
            self.counts["merges"] += 1
            expect(page.get_by_role("status").first).to_contain_text("merged with theirs")
        elif state == "restored":
            expect(page.get_by_role("status").first).to_contain_text("are here again")
        if self.desk.kind == "pipeline":
            page.get_by_label("Text", exact=True).first.click()
        expect(self.desk.area(page)).to_be_visible()


def with_word(text: Words, slot: int, word: str) -> Words:
    return (*text[:slot], word, *text[slot + 1 :])


@pytest.fixture(name="pages")
def _pages(browser: Browser, airflow: LocalAirflow, signed_in: Path) -> Iterator[tuple[Page, Page]]:
    """Two people, each with a browser of their own."""
    first = browser.new_context(base_url=airflow.url, storage_state=signed_in)
    second = browser.new_context(base_url=airflow.url)
    pages = first.new_page(), second.new_page()
    errors: list[str] = []
    for page in pages:
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("dialog", lambda dialog: dialog.accept())  # "leave the page?"
    pages[1].goto(airflow.url)
    pages[1].fill("input[name=username]", "second")
    pages[1].fill("input[name=password]", "the second person's password")
    pages[1].click("button[type=submit]")
    pages[1].get_by_role("link", name="Dags", exact=True).wait_for()
    pages[0].goto(airflow.url)
    yield pages
    for context in (first, second):
        context.close()
    assert errors == []


def check(desk: Desk, pages: tuple[Page, Page]) -> None:
    is_long = bool(os.environ.get("MODELMILL_LONG_TESTS"))
    counts = {"saves": 0, "conflicts": 0, "merges": 0}
    first, _, end = os.environ.get("MODELMILL_SEQUENCES", f"0:{MANY if is_long else FEW}").partition(":")
    for number in range(int(first), int(end)):
        seed = SEED + number
        sequence = Sequence(desk, pages, seed)
        try:
            sequence.play(16)
        except AssertionError as error:
            raise AssertionError(f"{desk.kind}, seed {seed}: {error}") from error
        counts = {name: count + sequence.counts[name] for name, count in counts.items()}
        print(f"{desk.kind}, seed {seed}: {sequence.counts}; all so far: {counts}", flush=True)
    assert counts["saves"] > 0
    if int(end) - int(first) >= MANY:  # the sequences reach what they are for
        assert counts["conflicts"] > MANY / 10
        assert counts["merges"] > 0


@pytest.mark.timeout(5400)
def test_two_people_and_a_pipeline_lose_nothing(pages: tuple[Page, Page], pipelines: Path) -> None:
    store = PipelineStore(str(pipelines))
    check(Desk("pipeline", PIPELINE, store, "canvas", "Pipelines", "Text of the pipeline (YAML)"), pages)


@pytest.mark.timeout(5400)
def test_two_people_and_a_rule_set_lose_nothing(pages: tuple[Page, Page], rules: Path) -> None:
    check(Desk("rules", RULES, RuleSetStore(str(rules)), "rules", "Rule sets", "Rule set (YAML)"), pages)
