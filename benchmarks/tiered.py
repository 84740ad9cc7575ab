"""What cheap models first are worth on the rule set of :mod:`benchmarks.rules`.

``./run python -m benchmarks.tiered`` parts the posts, so that no measured row was seen before: an eighth
teaches the heads, as without tiers; these and a sixth more teach 40 static students what the trunk decides,
without labels; an eighth is for ``learn_tiers``; the rest is measured. Both engines decide slice by slice in
turns, in one process, on one thread, so that other work on the machine weighs the same on both.

The right decision of a passage is what the rules decide where every model is right: the first of the rules
whose topics have the post's own. Where an explicit rule decides nothing can change.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from benchmarks import rules as bench
from demo.samples import prepare

from modelmill.evaluation.statistics import Proportion
from modelmill.rules.cascade.loss_budget import LossBudget
from modelmill.rules.cascade.static_students import fit_students
from modelmill.rules.cascade.tier_search import learn_tiers
from modelmill.rules.confidence_bounds import drop_bound, upper_bound
from modelmill.rules.engine import Engine
from modelmill.rules.lifecycle.rule_statistics import right_decisions
from modelmill.rules.pinned_rule_set import PinnedRuleSet
from modelmill.rules.rule_set import RuleSet
from modelmill.settings import Settings
from modelmill.signals.model_groups import ModelGroup
from modelmill.signals.pinned_models import pin_models

PARTS = (0.125, 0.30, 0.42)
"""Where the posts of heads, of students and of bands end."""
PENALTY = 0.2
SLICE = 5_000
BUDGET = 0.005


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--train", type=int, default=4_000, help="passages that the heads are fitted on")
    parser.add_argument("--method", default="int8_dynamic", help="how the trunk is quantised")
    parser.add_argument("--home", type=Path, default=Settings.from_environment().home)
    options = parser.parse_args()
    data, base = prepare(options.home)
    posts = bench.shuffled_posts(data, np.random.default_rng(0))
    compare_tiers(posts, base, options.rows, options.train, options.method)


def compare_tiers(posts: list[dict[str, str]], base: Path, most: int, train: int, method: str) -> None:
    random = np.random.default_rng(0)
    ends = [0, *(int(share * len(posts)) for share in PARTS), len(posts)]
    parts = []
    for start, end in itertools.pairwise(ends):
        found = bench.passages(posts[start:end], random)
        parts.append([found[place] for place in random.permutation(len(found))])
    known, unlabelled, bands, rows = *parts[:3], parts[3][:most]
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        _, heads = bench.prepared(base, place, known, train, method)
        texts = [text for _, text in (*known, *unlabelled)]
        rule_set = bench.some_rules(texts, heads, place)
        right = {
            topic: next(f"m{number}" for number, head in enumerate(heads) if topic in head.topics)
            for topic in {topic for topic, _ in known}
        }
        settings = Settings.from_environment()
        pins = pin_models((str(place / f"head{number}") for number in range(len(heads))), settings)
        pinned = PinnedRuleSet(rule_set=rule_set, pins=pins)
        began = time.process_time()
        unread = batch_of([("", text) for text in texts])
        students = fit_students(pinned, unread, place / "students", signals=(), penalty=PENALTY, log=print)
        first = {name: str(folder) for name, folder in students.items()}
        pinned = PinnedRuleSet(rule_set=rule_set, pins=pins | pin_models(first.values(), settings))
        print(f"{len(first)} students in {time.process_time() - began:.0f} CPU s")
        held = batch_of(bands)
        truth = right_decisions(pa.array([topic for topic, _ in bands]), right)
        print(f"{len(texts):,} passages for students, {len(bands):,} for bands, {len(rows):,} measured")
        rule_sets = {"without": rule_set}
        for about in ("decisions", "accuracy"):
            began = time.process_time()
            by_labels = about == "accuracy"
            budget = LossBudget(BUDGET, accuracy=by_labels)
            tiers = learn_tiers(pinned, held, first, budget, truth=truth if by_labels else None)
            rule_sets[about] = tiers.rule_set
            print(
                f"budget of {BUDGET:.1%} of {about}: below {tiers.below}, above {tiers.above}; "
                f"{tiers.saved:.1%} saved, {tiers.changed:.2%} changed, at most {tiers.bound:.2%} lost; "
                f"learnt in {time.process_time() - began:.0f} CPU s",
                flush=True,
            )
        measure(pinned, rule_sets, held.slice(0, 500), rows, heads=heads, right=right)


def measure(
    pinned: PinnedRuleSet,
    rule_sets: dict[str, RuleSet],
    sample: pa.RecordBatch,
    rows: list[tuple[str, str]],
    *,
    heads: list[bench.Head],
    right: dict[str, str],
) -> None:
    batch = batch_of(rows)
    engines: dict[str, Engine] = {}
    for name, rule_set in rule_sets.items():
        engines[name] = pinned.with_rule_set(rule_set).engine(batch.schema)
        engines[name].use(engines[name].measure_plan(sample))
    seconds, read = dict.fromkeys(engines, 0.0), dict.fromkeys(engines, 0)
    parts: dict[str, list[Any]] = {name: [] for name in engines}
    for start in range(0, batch.num_rows, SLICE):
        for name, engine in engines.items():
            bench.forget(engine)
            before = rows_read(engine)
            spent, found = bench.timed(functools.partial(engine.outcomes, batch.slice(start, SLICE)))
            seconds[name] += spent
            read[name] += rows_read(engine) - before
            parts[name].append(found)
    outcomes = {name: np.concatenate(found) for name, found in parts.items()}
    plain = outcomes["without"]
    print(f"without: {seconds['without'] / len(plain) * 1e3:.3f} CPU ms a row, {read['without']:,} rows read")
    for name in list(engines)[1:]:
        full = engines[name].evaluate_fully(batch.slice(0, 2 * SLICE)).outcomes
        if not np.array_equal(outcomes[name][: 2 * SLICE], full):
            raise SystemExit("the staged decisions with tiers differ from those of full evaluation")
        changed = int((plain != outcomes[name]).sum())
        most = upper_bound(changed, len(plain), doubt=0.05)
        print(
            f"\nbudget of {name}: {seconds[name] / len(plain) * 1e3:.3f} CPU ms a row, "
            f"**{seconds['without'] / seconds[name]:.2f} times** less; {read[name]:,} rows read, "
            f"{1 - read[name] / read['without']:.1%} saved; {changed / len(plain):.2%} of the rows are "
            f"decided otherwise (at most {most:.2%})"
        )
        compare_accuracy(plain, outcomes[name], np.array([topic for topic, _ in rows]), heads, right)


def compare_accuracy(
    plain: np.ndarray, tiered: np.ndarray, topics: np.ndarray, heads: list[bench.Head], right: dict[str, str]
) -> None:
    """Print the drop of two accuracies: of right decisions, and of decisions for a group with the topic."""
    wanted = np.array([bench.EXPLICIT + int(right[topic][1:]) for topic in topics])
    groups = np.stack([np.isin(topics, list(head.topics)) for head in heads], axis=1)
    number = np.arange(len(topics))
    for name, correct in (
        ("the right decision", lambda found: found == wanted),
        ("a group that has the topic", lambda found: by_model(found) & groups[number, found_head(found)]),
    ):
        was, is_now = correct(plain), correct(tiered)
        losses, gains = int((was & ~is_now).sum()), int((is_now & ~was).sum())
        most = drop_bound(losses, gains, len(topics), doubt=0.05)
        print(
            f"{name}: {was.mean():.2%} of the rows without, {is_now.mean():.2%} with; drop "
            f"{100 * (losses - gains) / len(topics):.2f} points, at most {100 * most:.2f} (95 %); "
            f"{losses:,} lost, {gains:,} won"
        )
    was, is_now = (by_model(found) & (found != wanted) for found in (plain, tiered))
    new, gone = int((is_now & ~was).sum()), int((was & ~is_now).sum())
    most = drop_bound(new, gone, len(topics), doubt=0.05)
    print(
        f"wrong decisions by a model rule: {was.mean():.2%} without, {is_now.mean():.2%} with; rise "
        f"{100 * (new - gone) / len(topics):.2f} points, at most {100 * most:.2f} (95 %)"
    )
    for name, found in (("without", plain), ("with", tiered)):
        decided = by_model(found)
        hits = int((decided & groups[number, found_head(found)]).sum())
        print(f"precision of the model rules {name} tiers: {Proportion.of(hits, int(decided.sum()))}")


def by_model(outcomes: np.ndarray) -> np.ndarray:
    found: np.ndarray = (outcomes >= bench.EXPLICIT) & (outcomes < bench.EXPLICIT + bench.MODELS)
    return found


def found_head(outcomes: np.ndarray) -> np.ndarray:
    found: np.ndarray = np.clip(outcomes - bench.EXPLICIT, 0, bench.MODELS - 1)
    return found


def rows_read(engine: Engine) -> int:
    """Return how many rows the trunk has read."""
    return sum(group.models.rows_read for group in engine.groups.values() if isinstance(group, ModelGroup))


def batch_of(rows: list[tuple[str, str]]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict({"id": list(range(len(rows))), "text": [text for _, text in rows]})


if __name__ == "__main__":
    main()
