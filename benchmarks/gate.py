"""How often the gate is wrong: equal challengers that it refuses, worse ones that it accepts.

    python benchmarks/gate.py

Real classifiers (TF-IDF and logistic regression) on made texts of 8 classes, as unequal in size as those of
Reuters R8. Champion and challenger learn from different rows of the same kind, so they differ as two nights
differ. A worse challenger has learnt from rows of which one class had its labels shuffled, each class in
turn. The gate's own comparisons and its own judge decide, with the defaults of its configuration.

    python benchmarks/gate.py --resplits 1000
    python benchmarks/gate.py --nights 365 --seeds 200

A champion is challenged every night, and no person approves anything in between. Rows are more or less
hard, and a model is right on a row where its skill, with luck of its own, exceeds that (a latent normal
variable for each row). All nights are judged on the same test rows.
"""

from __future__ import annotations

import argparse
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

CLASSES = ("acq", "crude", "earn", "grain", "interest", "money-fx", "ship", "trade")
SHARES = np.array([696, 121, 1083, 10, 81, 87, 36, 75]) / 2189
_WORDS = 40
"""Words that are typical of a class."""
HARDNESS = 0.95
"""Part of the variance that all models have in common: two of 95 % differ on 2.6 % of the rows."""


def rows(count: int, *, seed: int) -> tuple[list[str], list[str]]:
    """Texts that mix words of their class, of another one and of all."""
    rng = random.Random(seed)
    texts, labels = [], []
    for label in rng.choices(CLASSES, weights=list(SHARES), k=count):
        other = rng.choice(CLASSES)
        words = [f"{label}{rng.randrange(_WORDS)}" for _ in range(rng.randint(1, 5))]
        words += [f"{other}{rng.randrange(_WORDS)}" for _ in range(rng.randint(0, 3))]
        words += [f"common{rng.randrange(300)}" for _ in range(rng.randint(3, 15))]
        rng.shuffle(words)
        texts.append(" ".join(words))
        labels.append(label)
    return texts, labels


def learnt(texts: list[str], labels: list[str], test: list[str], *, seed: int) -> list[str]:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    model = make_pipeline(TfidfVectorizer(), LogisticRegression(C=20, max_iter=300, random_state=seed))
    return [str(name) for name in model.fit(texts, labels).predict(test)]


def shuffled(labels: list[str], victim: str, *, seed: int) -> list[str]:
    """The labels, with other classes drawn for those of one class."""
    rng = random.Random(seed)
    return [rng.choice(CLASSES) if label == victim else label for label in labels]


@dataclass(frozen=True)
class Said:
    """What the gate says by its defaults."""

    refused: list[str]
    """Names of the checks that refuse; empty if it passes."""
    too_small: list[str]
    """Names of what it says is too small to judge."""


def verdict(truth: list[str], champion: list[str], challenger: list[str], baseline: list[str]) -> Said:
    """Ask the gate."""
    from modelmill.registry.comparison import Comparison, NotJudged
    from modelmill.registry.gate_options import GateOptions
    from modelmill.registry.metric_comparisons import (
        Answered,
        Statistics,
        compare_metric,
        compare_parts,
        parts_by,
    )
    from modelmill.registry.verdict import judge
    from modelmill.tasks.kinds import task_of

    config = GateOptions(name="simulated", resamples=1000)
    how = Statistics(confidence=config.confidence, resamples=config.resamples)
    metric = task_of("class").metric(config.metric)
    found = [
        compare_metric(
            name, Answered.of(truth, other, challenger), check="metric", metric=metric, limit=limit, how=how
        )
        for name, other, limit in (
            ("champion", champion, config.max_drop),
            ("parent", champion, config.max_drop),
            ("baseline", baseline, config.max_below_baseline),
        )
    ]
    assert config.max_class_drop is not None
    parts = compare_parts(
        parts_by(truth),
        "champion",
        Answered.of(truth, champion, challenger),
        check="class",
        shown="recall",
        limit=config.max_class_drop,
        how=how,
        min_rows=5,
    )
    small = []
    for part in parts:
        if isinstance(part, Comparison):
            found.append(part)
        elif isinstance(part, NotJudged):
            small.append(part.name)
    checks = judge(found, confidence=config.confidence)
    small += [check.name for check in checks if check.too_small]
    return Said([check.name for check in checks if not check.passed], small)


def independent(seed: int, count: int) -> list[str]:
    """Return why the gate refuses a challenger that is as often right as the champion, on rows of its own."""
    rng = np.random.default_rng(seed)
    truth = [CLASSES[place] for place in rng.choice(len(CLASSES), size=count, p=SHARES)]
    skill = dict(zip(CLASSES, rng.uniform(0.6, 0.98, len(CLASSES)), strict=True))

    def answers() -> list[str]:
        right = [rng.random() < skill[label] for label in truth]
        return [label if hit else "wrong" for label, hit in zip(truth, right, strict=True)]

    champion = answers()
    return verdict(truth, champion, answers(), champion).refused


@dataclass(frozen=True)
class Year:
    """What the gate said of the challenger of each night."""

    promoted: list[bool]
    found_worse: list[bool]
    """Whether it was refused as worse than the champion, beyond chance."""


def year(skills: Sequence[float], *, rows: int, seed: int) -> Year:
    """Judge a challenger each night by the rules of the gate: level with the champion, and within the budget.

    The first skill is that of the first champion. A challenger that is promoted is the next night's champion.
    """
    from scipy.stats import norm

    from modelmill.registry.approval import spent_at
    from modelmill.registry.gate_options import GateOptions
    from modelmill.registry.metric_comparisons import drop_p, mcnemar

    options, rng = GateOptions(name="simulated"), np.random.default_rng(seed)
    budget, alpha = options.max_drift or 0.0, 1 - options.confidence
    hard = rng.standard_normal(rows, np.float32) * np.sqrt(HARDNESS)

    def right(skill: float) -> np.ndarray:
        luck = rng.standard_normal(rows, np.float32) * np.sqrt(1 - HARDNESS)
        return np.asarray(hard + luck < norm.ppf(skill))

    first = champion = right(skills[0])
    said = Year([], [])
    for look, skill in enumerate(skills[1:], start=1):
        challenger = right(skill)
        drop = champion.mean() - challenger.mean()
        worse = bool(drop > options.max_drop and mcnemar(champion, challenger) <= alpha / 2)
        lost, won = int((first & ~challenger).sum()), int((challenger & ~first).sum())
        shown = drop_p(lost, won, rows, budget) <= spent_at(look, alpha)
        said.found_worse.append(worse)
        said.promoted.append(shown and not worse)
        champion = challenger if said.promoted[-1] else champion
    return said


def nights(count: int, seeds: int, sizes: Sequence[int]) -> None:
    """Print what the gate does over a year, for several numbers of test rows."""
    drift = [0.95 - 0.001 * night for night in range(31)]
    head = (
        "test rows",
        "false promotions",
        "drift stopped by 10",
        "mean night",
        "equal promoted",
        "found worse",
    )
    print("  ".join(head))
    for rows in sizes:
        worse = [year([0.95] + [0.94] * count, rows=rows, seed=seed) for seed in range(seeds)]
        false = sum(any(one.promoted) for one in worse) / seeds
        stops = [year(drift, rows=rows, seed=1000 + seed).promoted.index(False) + 1 for seed in range(seeds)]
        equal = [year([0.95] * (count + 1), rows=rows, seed=2000 + seed) for seed in range(min(seeds, 20))]
        month = np.mean([np.mean(one.promoted[:30]) for one in equal])
        whole = np.mean([np.mean(one.promoted) for one in equal])
        refused = np.mean([np.mean(one.found_worse) for one in equal])
        cells = (
            f"{rows:,}",
            f"{false:.1%}",
            f"{np.mean(np.array(stops) <= 10):.1%}",
            f"{np.mean(stops):.1f}",
            f"{month:.0%} in 30 nights, {whole:.0%} in {count}",
            f"{refused:.1%}",
        )
        print("  ".join(cell.rjust(len(name)) for cell, name in zip(cells, head, strict=True)), flush=True)


def resplits(count: int, size: int = 400) -> None:
    """Split the same texts anew, half of them changed a little, and count learnt rows that are judged on."""
    import pyarrow as pa

    from modelmill.datasets.minhash import similarity
    from modelmill.datasets.overlap import find_copies

    threshold, stayed, left, learnt, too_many = 0.55, 0, 0, 0, 0
    for seed in range(count):
        rng = np.random.default_rng(seed)
        texts = [f"{text} row {place}" for place, text in enumerate(rows(size, seed=seed)[0])]
        before, after = rng.random(size) < 0.2, np.flatnonzero(rng.random(size) < 0.2)
        words = [texts[place].split() for place in after]
        for row in words[::2]:
            row[int(rng.integers(len(row)))] = "changed"
        test = pa.array([" ".join(row) for row in words], pa.large_string())
        train = pa.array(
            [text for text, out in zip(texts, before, strict=True) if not out], pa.large_string()
        )
        found = find_copies(test, train, threshold=threshold).any
        pairs = np.indices((len(test), len(train))).reshape(2, -1)
        alike = similarity(pa.concat_arrays([test, train]), pairs[0], pairs[1] + len(test)) >= threshold
        copies = alike.reshape(len(test), len(train)).any(axis=1)
        stayed += int((copies & ~found).sum())
        too_many += int((found & ~copies).sum())
        learnt += int(copies.sum())
        left += int((~found).sum())
    print(
        f"{count} resplits: {learnt:,} test rows learnt from, {stayed} of them judged on; {left:,} rows left"
    )
    print(f"rows left out that are no copies: {too_many}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--equal", type=int, default=300)
    parser.add_argument("--independent", type=int, default=1000)
    parser.add_argument("--worse", type=int, default=40)
    parser.add_argument("--train", type=int, default=4000)
    parser.add_argument("--test", type=int, default=2189)
    parser.add_argument("--resplits", type=int, default=0)
    parser.add_argument("--nights", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--sizes", type=int, nargs="+", default=[500, 2000, 5000, 10_000])
    arguments = parser.parse_args()
    if arguments.resplits:
        resplits(arguments.resplits)
        return
    if arguments.nights:
        nights(arguments.nights, arguments.seeds, arguments.sizes)
        return
    refused, reasons = 0, Counter[str]()
    for seed in range(arguments.equal):
        texts, truth = rows(arguments.test, seed=seed)
        both = [rows(arguments.train, seed=1000 + 2 * seed + which) for which in (0, 1)]
        champion, challenger = (learnt(*one, texts, seed=seed) for one in both)
        found = verdict(truth, champion, challenger, champion).refused
        refused += bool(found)
        reasons.update(found)
    print(
        f"equal challengers refused: {refused} of {arguments.equal} ({refused / max(arguments.equal, 1):.1%})"
    )
    for name, times in reasons.most_common():
        print(f"    {name}: {times}")
    wrong = sum(bool(independent(seed, arguments.test)) for seed in range(arguments.independent))
    if arguments.independent:
        print(f"equal ones that err on other rows: {wrong} of {arguments.independent} refused")
    caught, right = 0, 0
    for seed in range(arguments.worse):
        victim = CLASSES[seed % len(CLASSES)]
        texts, truth = rows(arguments.test, seed=seed)
        champion = learnt(*rows(arguments.train, seed=1000 + seed), texts, seed=seed)
        training, labels = rows(arguments.train, seed=5000 + seed)
        challenger = learnt(training, shuffled(labels, victim, seed=seed), texts, seed=seed)
        said = verdict(truth, champion, challenger, champion)
        caught += bool(said.refused)
        right += f"class {victim}, champion" in said.refused
        if not said.refused:
            known = "said to be" if f"class {victim}, champion" in said.too_small else "not said to be"
            print(f"    accepted: seed {seed}, labels of {victim} shuffled; {known} too small to judge")
    print(f"worse challengers refused: {caught} of {arguments.worse}; naming the shuffled class: {right}")


if __name__ == "__main__":
    main()
