"""What a language model's labels are worth, with a simulated one: true labels, of which 8 % are wrong.

::

    python -m benchmarks.simulated_teacher selection      # labels chosen by margin, and at random
    python -m benchmarks.simulated_teacher precision      # whether kept labels keep what gold rows promise
    python -m benchmarks.simulated_teacher forecast       # the bill after a pilot, and the bill
    python -m benchmarks.simulated_teacher forecast --signals   # the same with three signals a request
    python -m benchmarks.simulated_teacher refusals       # students that are worse than their teacher

**No language model is behind any of it.** The teacher knows the true label of each train row of Reuters R8,
R52 and 20 Newsgroups, and is wrong on 8 % of them: of some classes more often than of others, and mostly with
the class that is most like the true one (by the cosine of mean TF-IDF vectors). Equal contents get the same
answer. What chooses, holds to gold, forecasts and refuses is modelmill's own.
"""

from __future__ import annotations

import argparse
import functools
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from demo.samples import prepare

from modelmill.language_models.questions import Question
from modelmill.settings import Settings

CORPORA = ("reuters_r8", "reuters_r52", "20newsgroups")
WRONG = 0.08
PROMISED = 0.85
OTHERS = (
    Question("figures", (("figures", "numbers in digits"), ("words alone", "no digit"))),
    Question("length", (("a short message", "below 400 letters"), ("a long message", ""))),
)
"""Asked with the topic where there are three signals; what is true of a row is in its text."""
SELECTIONS = 5
"""Of forecasts, since each takes a while."""

Names = npt.NDArray[np.str_]
Places = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Corpus:
    """Texts and topics; of the train texts what the simulated teacher says, too."""

    name: str
    texts: list[str]
    topics: Names
    said: Names
    test_texts: list[str]
    test_topics: Names
    features: Any
    """TF-IDF of the train texts."""
    test_features: Any


@functools.cache
def corpus(name: str) -> Corpus:
    from sklearn.feature_extraction.text import TfidfVectorizer

    data, _ = prepare(Settings.from_environment().home)
    (texts, topics), (tests, test_topics) = (
        read(data / "landing" / name / f"{split}.jsonl") for split in ("train", "test")
    )
    words = TfidfVectorizer(sublinear_tf=True)
    features = words.fit_transform(texts)
    said = taught(texts, topics, features)
    return Corpus(name, texts, topics, said, tests, test_topics, features, words.transform(tests))


def read(path: Path) -> tuple[list[str], Names]:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [row["text"] for row in rows], np.array([row["topic"] for row in rows])


def taught(texts: Sequence[str], topics: Names, features: Any, seed: int = 0) -> Names:
    """Return what the simulated teacher says of each text."""
    random = np.random.default_rng(seed)
    classes, places = np.unique(topics, return_inverse=True)
    means = np.vstack([np.asarray(features[places == one].mean(0)).ravel() for one in range(len(classes))])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    alike = means @ means.T
    np.fill_diagonal(alike, -1)
    nearest = alike.argsort(1)[:, ::-1][:, :2]  # (classes, 2)
    rates = random.uniform(0.25, 1.75, len(classes))
    rates *= WRONG / (rates @ (np.bincount(places) / len(places)))
    wrong = random.random(len(texts)) < rates[places]
    other = nearest[places, (random.random(len(texts)) < 0.3).astype(int)]
    said = np.where(wrong, other, places)
    first: dict[str, int] = {}
    return np.array([classes[said[first.setdefault(text, n)]] for n, text in enumerate(texts)])


def selection(names: Sequence[str], seeds: int) -> None:
    """Print the test accuracy after labels chosen by margin and at random."""
    print("| corpus | teacher right | 1,200 at random | 600 by margin | gain | 1,200 by margin | CPU s |")
    print("| --- | --- | --- | --- | --- | --- | --- |", flush=True)
    for name in names:
        began, one = time.process_time(), corpus(name)
        found = np.array([_selected(one, seed) for seed in range(seeds)])  # (seeds, 3)
        gains = found[:, 1] - found[:, 0]
        each = " | ".join(_with_range(column) for column in (found[:, 0], found[:, 1], gains, found[:, 2]))
        right = 100 * float((one.said == one.topics).mean())
        print(f"| {name} | {right:.1f} % | {each} | {time.process_time() - began:.0f} |", flush=True)


def _with_range(values: npt.NDArray[np.float64]) -> str:
    return f"{values.mean():.2f} ({values.min():.2f} to {values.max():.2f})"


def _selected(one: Corpus, seed: int) -> list[float]:
    order = np.random.default_rng(seed).permutation(len(one.texts))
    chosen = [by_margin(one, order, rows) for rows in (600, 1200)]
    return [accuracy(one, rows) for rows in (order[:1200], *chosen)]


def by_margin(
    one: Corpus,
    order: Places,
    rows: int,
    *,
    gold: int = 0,
    ask: Callable[[Sequence[str], Sequence[str]], None] = lambda _keys, _later: None,
) -> Places:
    """Return the rows that the step would ask about, with its defaults; the first ones may be gold."""
    from modelmill.language_models.options import RowSelection
    from modelmill.language_models.selection import SelectableContent, select_in_rounds

    units = [
        SelectableContent(
            one.texts[row], (f"{number:06}",), (str(one.topics[row]) if number < gold else None,)
        )
        for number, row in enumerate(order.tolist())
    ]
    chosen = select_in_rounds(
        units,
        RowSelection(rows=rows),
        ask=ask,
        labels_of=lambda unit: [str(one.said[order[int(unit.keys[0])]])],
    )
    return order[[int(key) for key in chosen.inclusion]]


def accuracy(one: Corpus, rows: Places) -> float:
    """Return the test accuracy in per cent of TF-IDF with a linear SVM that learnt these rows' labels."""
    from sklearn.svm import LinearSVC

    model = LinearSVC(C=1.0, random_state=0).fit(one.features[rows], one.said[rows])
    return 100 * float((model.predict(one.test_features) == one.test_topics).mean())


def precision(names: Sequence[str], resplits: int) -> None:
    """Print in how many resplits every label that is given is as right on the other rows as gold promised."""
    print(
        "| corpus | gold rows | labels given, on average | rows they keep | resplits that keep all promises |"
    )
    print("| --- | --- | --- | --- | --- |")
    for name in names:
        one = corpus(name)
        scores = _scores(one)
        for gold in (300, 1000):
            found = [_promises(one, scores, gold, seed) for seed in range(resplits)]
            held = sum(all(share >= PROMISED for share in shares) for shares, _ in found)
            given = float(np.mean([len(shares) for shares, _ in found]))
            kept = float(np.mean([share for _, share in found]))
            labels = f"{given:.1f} of {len(np.unique(one.topics))}"
            print(f"| {name} | {gold:,} | {labels} | {kept:.0%} | {held} of {resplits} |", flush=True)


def _scores(one: Corpus) -> npt.NDArray[np.float64]:
    """Return how sure the simulated teacher is: less so where it is wrong, and not by much."""
    random = np.random.default_rng(1)
    right = one.said == one.topics
    return np.where(right, random.beta(6, 1.5, len(right)), random.beta(4, 2, len(right)))


def _promises(
    one: Corpus, scores: npt.NDArray[np.float64], gold: int, seed: int
) -> tuple[list[float], float]:
    """Return the precision on other rows of each label that is given, and the share of them that is kept."""
    from modelmill.language_models.gold import GoldRow, held_to_gold
    from modelmill.language_models.votes import Vote

    order = np.random.default_rng(seed).permutation(len(one.texts))
    rows, others = order[:gold], order[gold:]
    report = held_to_gold(
        [
            GoldRow(str(one.topics[row]), Vote(str(one.said[row]), float(scores[row])), ())
            for row in rows.tolist()
        ],
        [str(name) for name in np.unique(one.topics)],
        precision=PROMISED,
        doubt=0.05,
        orders=1,
    )
    shares, kept = [], 0
    for label in report.labels:
        if label.threshold is None:
            continue
        mine = others[(one.said[others] == label.label) & (scores[others] >= label.threshold)]
        kept += len(mine)
        if len(mine):
            shares.append(float((one.topics[mine] == label.label).mean()))
    return shares, kept / len(others)


def forecasts(names: Sequence[str], pilots: int, *, signals: bool) -> None:
    """Print how far forecasts from 50 answers are from the bill, with one signal a request or three."""
    print("| corpus | rows | requests | tokens billed | furthest off | furthest of 95 % |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name in names:
        one = corpus(name)
        size = len(one.texts)
        orders = [np.random.default_rng(seed).permutation(size) for seed in range(pilots)]
        everything = [(order[:50], order[50:], order) for order in orders]
        _show_forecasts(one, "all", everything, signals=signals)
        for gold in (100, 0):
            selected = [_selection_forecast(one, order, gold) for order in orders[:SELECTIONS]]
            _show_forecasts(one, f"1,200 by margin, {gold} gold", selected, signals=signals)


def _selection_forecast(one: Corpus, order: Places, gold: int) -> tuple[Places, Places, Places]:
    """Return the rows that a forecast is made from, those that it is made for, and those that are asked."""
    told: list[tuple[Places, Places]] = []

    def ask(keys: Sequence[str], later: Sequence[str]) -> None:
        if keys:
            told.append((order[[int(key) for key in keys]], order[[int(key) for key in later]]))

    asked = by_margin(one, order, 1200, gold=gold, ask=ask)
    second_round = 2 if gold else 1  # before which it is revised
    answered = np.concatenate([rows for rows, _ in told[:second_round]])
    return answered, np.concatenate(told[second_round]), asked


def _show_forecasts(
    one: Corpus, rows: str, cases: Sequence[tuple[Places, Places, Places]], *, signals: bool
) -> None:
    sizes, answers = _asked(one.name, signals=signals)
    off = np.abs([_off(sizes, answers, *case) for case in cases])
    billed = np.mean([sum(sum(answers[row]) for row in asked.tolist()) for _, _, asked in cases])
    print(
        f"| {one.name} | {rows} | {len(cases[0][2]):,} | {billed:,.0f} | {off.max():.1%} of {len(cases)} | "
        f"{np.quantile(off, 0.95):.1%} |",
        flush=True,
    )


@functools.cache
def tokenizer() -> Any:
    """Return the encoder's tokenizer, whose tokens are billed."""
    from tokenizers import Tokenizer

    _, model = prepare(Settings.from_environment().home)
    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


@functools.cache
def _asked(name: str, *, signals: bool) -> tuple[list[int], list[tuple[int, int]]]:
    """Return the worst case of each row's request, and what is billed: tokens of the encoder's tokenizer."""
    from modelmill.language_models.chat import ChatDialect
    from modelmill.language_models.dialects import Parameters
    from modelmill.language_models.questions import system_text_of

    one, dialect, parameters = corpus(name), ChatDialect(), Parameters("simulated-2026-11-30")
    topic = Question("topic", tuple((str(label), "") for label in np.unique(one.topics)))
    questions = (topic, *OTHERS) if signals else (topic,)
    tokens = tokenizer()
    requests = [dialect.request_about(questions, text, parameters) for text in one.texts]
    sizes = [dialect.worst_case(request, parameters).input_tokens for request in requests]
    prompt = system_text_of(questions) if signals else topic.system_text()
    around = len(tokens.encode(prompt).ids) + 8
    inputs = [around + len(found.ids) for found in tokens.encode_batch(one.texts)]
    said = [_said(str(label), text, signals=signals) for label, text in zip(one.said, one.texts, strict=True)]
    outputs = [len(found.ids) for found in tokens.encode_batch(said)]
    return sizes, list(zip(inputs, outputs, strict=True))


def _said(topic: str, text: str, *, signals: bool) -> str:
    """Return what the simulated teacher writes about a row."""
    if not signals:
        return json.dumps({"label": topic})
    figures = "figures" if any(letter.isdigit() for letter in text) else "words alone"
    length = "a short message" if len(text) < 400 else "a long message"
    return json.dumps({"topic": topic, "figures": figures, "length": length})


def _off(
    sizes: list[int], billed: list[tuple[int, int]], answered: Places, todo: Places, asked: Places
) -> float:
    """Return the error of a forecast, as a share of the bill."""
    from modelmill.language_models.answers import LabelAnswer
    from modelmill.language_models.forecast import forecast
    from modelmill.language_models.prices import SpendingLimit, Tariff

    found = forecast(
        {str(row): sizes[row] for row in [*answered.tolist(), *todo.tolist()]},
        [str(row) for row in todo.tolist()],
        {str(row): LabelAnswer("answered", "", None, *billed[row]) for row in answered.tolist()},
        tariff=Tariff.of(SpendingLimit(tokens=10**12), None),
        max_tokens=64,
        spent=0,
    )
    spent = sum(sum(billed[row]) for row in answered.tolist())
    bill = sum(sum(billed[row]) for row in asked.tolist())
    return (spent + found.cost) / bill - 1


def refusals(runs: int) -> None:
    """Print how often the check refuses students of R8 that are less often right than their teacher."""
    from modelmill.registry.answers_check import AnswersCheck
    from modelmill.registry.comparison import Comparison
    from modelmill.registry.metric_comparisons import Answered, Statistics
    from modelmill.registry.verdict import judge

    truth = corpus("reuters_r8").test_topics.astype(object)
    checks = [
        AnswersCheck(column="topic_answer"),
        AnswersCheck(column="topic_answer", proof=True),
        AnswersCheck(column="topic_answer", max_drop=0.9, min_accuracy=1 - WRONG),
    ]
    print("| points below the teacher | refused | with proof | by min_accuracy 0.92 |")
    print("| --- | --- | --- | --- |")
    for drop in (-0.04, 0.0, 0.005, 0.02, 0.05, 0.1):
        refused = np.zeros(len(checks), dtype=int)
        for seed in range(runs):
            random = np.random.default_rng(seed)
            teacher, student = (_answers(truth, wrong, random) for wrong in (WRONG, WRONG + drop))
            rows = Answered(truth, teacher, student)
            for place, check in enumerate(checks):
                compared = check.compare_rows(rows, how=Statistics(resamples=500))
                found = judge([item for item in compared if isinstance(item, Comparison)], confidence=0.95)
                refused[place] += not all(result.passed for result in found)
        print(
            f"| {100 * drop:g} | " + " | ".join(f"{count} of {runs}" for count in refused) + " |", flush=True
        )


def _answers(
    truth: npt.NDArray[np.object_], wrong: float, random: np.random.Generator
) -> npt.NDArray[np.object_]:
    """Return answers of which such a share is wrong."""
    classes = np.unique(truth)
    guessed = random.random(len(truth)) < wrong * len(classes) / (len(classes) - 1)
    return np.where(guessed, random.choice(classes, len(truth)), truth)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("part", choices=["selection", "precision", "forecast", "refusals"])
    parser.add_argument("--corpora", nargs="*", default=list(CORPORA), choices=CORPORA)
    parser.add_argument("--seeds", type=int, default=5, help="of selection")
    parser.add_argument("--runs", type=int, default=100, help="of the others")
    parser.add_argument("--signals", action="store_true", help="of forecast: three signals in each request")
    given = parser.parse_args()
    parts: dict[str, Callable[[], None]] = {
        "selection": lambda: selection(given.corpora, given.seeds),
        "precision": lambda: precision(given.corpora, given.runs),
        "forecast": lambda: forecasts(given.corpora, given.runs, signals=given.signals),
        "refusals": lambda: refusals(given.runs),
    }
    parts[given.part]()


if __name__ == "__main__":
    main()
