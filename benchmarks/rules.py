"""A rule set of 60 explicit and 40 model signals, beside what a user would do instead.

``./run python -m benchmarks.rules`` cuts the posts of 20 Newsgroups into passages of about 30 words, as
comments are: every document is another one. It exports MiniLM-L6 as a trunk and fits 40 heads on passages of
other posts: fields, topics and pairs of topics, each with the threshold that keeps its precision on new rows.
The explicit rules settle about half of the rows. The other way is one Python ``re`` loop for each pattern and
one fp32 copy of the model for each signal: its cost is **extrapolated** from a sample, pattern by pattern and
copy by copy, since 40 copies over all rows would take days. CPU seconds of all threads; loading, compiling
and planning left out on both sides.

``--explain`` measures what explanations cost beside deciding alone instead: on these passages, on made-up
rule sets of 20 and of 1,000 number columns, and with ``--desks MODELS`` on the posts of ``newsgroups_desks``,
whose models are the bundles ``topic`` and ``field`` in that folder: static ones are fitted there, unless it
has them. Both are measured in turns, with a fresh engine each.
"""

from __future__ import annotations

import argparse
import functools
import json
import re
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from benchmarks.patterns import rare_words, some_pattern
from demo.samples import prepare
from safetensors.numpy import save_file
from sklearn.linear_model import LogisticRegression

from modelmill.compression.static import fit_static
from modelmill.compression.trunk import make_trunk
from modelmill.models.base_model import load_base_model
from modelmill.models.bundle import BundleInfo, bundle_digest
from modelmill.models.static import write_static
from modelmill.rules.engine import Engine
from modelmill.rules.lifecycle.threshold_advice import suggest_threshold
from modelmill.rules.pinned_rule_set import PinnedRuleSet
from modelmill.rules.reading import load_rule_set
from modelmill.rules.rule_set import RuleSet
from modelmill.settings import Settings
from modelmill.signals.model_cascade import ModelCascade
from modelmill.signals.model_groups import ModelGroup
from modelmill.signals.pinned_models import PinnedModel
from modelmill.tokens.tokenizer import encode, load_tokenizer

MAX_TOKENS = 128
MEAN_WORDS = 30
EXPLICIT, MODELS = 60, 40
PRECISION = 0.8
"""Precision on new rows that a model rule is given its threshold for."""
UNSHOWN = 0.95
"""Probability from which one decides where no threshold can be shown to have it."""
FIRST = 5
"""Rows that an engine is warmed up with."""
DESK_TOKENS = 256
DESKS = {
    "comp.": "computers",
    "rec.sport.": "sport",
    "rec.": "vehicles",
    "sci.": "science",
    "misc.": "market",
    "talk.politics.": "politics",
    "": "religion",
}
"""Field of a post by the begin of its topic, as the pipeline ``newsgroups_rules`` has it."""
FIELDS = ("comp.", "rec.sport.", "rec.", "sci.", "talk.politics.", "misc.", "talk.religion.")


@dataclass(frozen=True)
class Head:
    """A signal's model: what it weighs, and from where it decides."""

    weight: np.ndarray
    bias: float
    threshold: float
    topics: frozenset[str] = frozenset()
    """What it is true of."""

    def probability(self, features: np.ndarray) -> np.ndarray:
        """Return the probability of each row, ``(rows,)``."""
        found: np.ndarray = 1 / (1 + np.exp(-(features @ self.weight + self.bias)))
        return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--full", type=int, default=100_000, help="rows that are evaluated fully as well")
    parser.add_argument("--train", type=int, default=4_000, help="passages that the heads are fitted on")
    parser.add_argument("--sample", type=int, default=10_000, help="rows of the fp32 pass")
    parser.add_argument("--method", default="int8_dynamic", help="how the trunk is quantised")
    parser.add_argument("--home", type=Path, default=Settings.from_environment().home)
    parser.add_argument("--explain", action="store_true", help="measure what explanations cost")
    parser.add_argument("--desks", type=Path, help="folder with the models of newsgroups_desks")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of --explain")
    options = parser.parse_args()
    data, base = prepare(options.home)
    random = np.random.default_rng(0)
    posts = shuffled_posts(data, random)
    if options.explain:
        explain_columns(options.rounds)
    if options.explain and options.desks:
        fit_desks(data, base, options.desks)
        explain_desks(posts[: options.rows + FIRST], options.desks, options.rounds)
    seen = len(posts) // 8
    known, rows = passages(posts[:seen], random), passages(posts[seen:], random)
    known = [known[place] for place in random.permutation(len(known))]
    rows = [rows[place] for place in random.permutation(len(rows))[: options.rows]]
    with tempfile.TemporaryDirectory() as folder:
        fp32, heads = prepared(base, Path(folder), known, options.train, options.method)
        if options.explain:
            texts = [text for _, text in rows]
            batch = pa.RecordBatch.from_pydict({"id": list(range(len(texts))), "text": texts})
            rule_set = some_rules(texts, heads, Path(folder))
            explained("passages", lambda: Engine(rule_set, batch.schema), batch, options.rounds)
            return
        measure(
            [text for _, text in rows], fp32, heads, Path(folder), sample=options.sample, full=options.full
        )


def measure(texts: list[str], fp32: Any, heads: list[Head], place: Path, *, sample: int, full: int) -> None:
    rule_set = some_rules(texts, heads, place)
    batch = pa.RecordBatch.from_pydict({"id": list(range(len(texts))), "text": texts})
    engine = Engine(rule_set, batch.schema)
    engine.use(engine.measure_plan(batch.slice(0, 500)))
    forget(engine)
    seconds, staged = timed(lambda: engine.outcomes(batch))
    # What the stages have read is remembered: a row has the same answer alone and in any batch.
    if not np.array_equal(staged[:full], engine.evaluate_fully(batch.slice(0, full)).outcomes):
        raise SystemExit("the staged decisions differ from those of full evaluation")
    print(f"{seconds:.0f} CPU s stage by stage; equal to full evaluation", flush=True)
    explicit = float((staged < EXPLICIT).mean())
    by_model = float(((staged >= EXPLICIT) & (staged < EXPLICIT + MODELS)).mean())

    few = texts[:sample]
    pass_seconds, features = timed(lambda: fp32_features(fp32, few))
    loops = [re.compile(signal.pattern, re.ASCII) for signal in list(rule_set.signals.values())[:EXPLICIT]]
    loop_seconds, hits = timed(lambda: [[bool(one.search(text)) for text in few] for one in loops])
    other = decided(np.array(hits), heads, features)
    equal = other == staged[:sample]
    modelled = other >= EXPLICIT

    each, one_pass = seconds / len(texts), pass_seconds / len(few)
    naive = loop_seconds / len(few) + MODELS * one_pass
    words = sum(len(text.split()) for text in texts) / len(texts)
    print(
        f"{len(texts):,} rows ({len(set(texts)):,} different) of {words:.0f} words, {EXPLICIT} explicit and "
        f"{MODELS} model signals"
    )
    print(f"explicit rules settle {explicit:.1%}, model rules {by_model:.1%}")
    print(f"staged and full decisions are equal on every one of {min(full, len(texts)):,} rows")
    print("| CPU ms for each row | | |\n| --- | --- | --- |")
    print(f"| re loops and {MODELS} fp32 copies (extrapolated from {sample} rows) | {naive * 1e3:,.2f} | 1 |")
    for name, cost in (
        ("one plain fp32 pass, batches as they come", one_pass),
        ("the engine, stage by stage", each),
    ):
        print(f"| {name} | {cost * 1e3:,.3f} | {naive / cost:,.0f} |")
    print(f"the engine costs {each / one_pass:.3f} of one fp32 pass")
    print(
        f"decisions equal to fp32's: {equal.mean():.2%} of {len(few):,}; of the {modelled.sum():,} that the "
        f"explicit rules leave open {equal[modelled].mean():.2%}"
    )
    for stage in engine.statistics.stages:
        print(f"    {stage.rows:,} rows, {stage.seconds:.2f} s, settled {stage.settled:,}")
    for line in engine.plan.lines()[:8]:
        print("   ", line[:150])


def explained(name: str, make: Callable[[], Engine], batch: pa.RecordBatch, rounds: int) -> None:
    """Print what it costs to decide, and to decide and explain: CPU ms for each row, medians of rounds.

    The first rows are left out: on them each engine compiles what it needs, that of explanations included.
    """
    first, batch = batch.slice(0, FIRST), batch.slice(FIRST)
    plain, told = [], []
    for _ in range(rounds):
        for explain, found in ((False, plain), (True, told)):
            engine = make()
            engine.decide(first, explain=explain)
            forget(engine)
            seconds, _ = timed(lambda made=engine, how=explain: made.decide(batch, explain=how))
            found.append(seconds * 1e3 / batch.num_rows)
    one, other = statistics.median(plain), statistics.median(told)
    print(f"| {name}, {batch.num_rows:,} rows | {one:.4f} | {other:.4f} | {other / one:.2f} |", flush=True)


def explain_columns(rounds: int) -> None:
    """Explain decisions by rules that compare number columns."""
    print("| CPU ms for each row | deciding | and explaining | ratio |\n| --- | --- | --- | --- |")
    for count, rows in ((20, 1_000), (1_000, 20)):
        random = np.random.default_rng(0)
        names = [f"c{number}" for number in range(count)]
        conditions = [f"{name} > {1 - 1 / count}" for name in names]
        rule_set = RuleSet.model_validate(
            {
                "rule_set": "columns",
                "key": "id",
                "signals": {name: {"kind": "column"} for name in names},
                "rules": [
                    {"name": f"r{number}", "when": when, "then": f"d{number % 7}"}
                    for number, when in enumerate(conditions)
                ],
                "default": "none",
            }
        )
        rows += FIRST
        columns = {name: random.random(rows) for name in names}
        batch = pa.RecordBatch.from_pydict({"id": list(range(rows)), **columns})
        make = functools.partial(Engine, rule_set, batch.schema)
        explained(f"{count:,} rules over {count:,} number columns", make, batch, rounds)


def fit_desks(data: Path, base: Path, models: Path) -> None:
    """Fit static models of the topics and the fields on the train split, unless they are there."""
    posts, tokenizer = read(data, "train"), load_tokenizer(base, max_tokens=DESK_TOKENS)
    topics = [post["topic"] for post in posts]
    fields = [next(field for begin, field in DESKS.items() if topic.startswith(begin)) for topic in topics]
    for name, labels in (("topic", topics), ("field", fields)):
        folder = models / name
        if folder.exists():
            continue
        classes = sorted(set(labels))
        targets = np.eye(len(classes))[[classes.index(label) for label in labels]]
        tokens = encode(tokenizer, [post["text"] for post in posts])
        model = fit_static(tokens, targets, vocabulary=tokenizer.get_vocab_size())
        folder.mkdir(parents=True)
        shutil.copyfile(base / "tokenizer.json", folder / "tokenizer.json")
        write_static(
            folder,
            model.tables,
            model.bias,
            label=name,
            classes=classes,
            text="text",
            max_tokens=DESK_TOKENS,
        )


def explain_desks(posts: list[dict[str, str]], models: Path, rounds: int) -> None:
    """Explain which desk posts go to."""
    rule_set = load_rule_set("dags/rules/newsgroups_desks.yaml")
    pins = {
        f"signals:{name}": PinnedModel(folder=str(models / name), digest=bundle_digest(models / name))
        for name in ("topic", "field")
    }
    for rows in (200, len(posts) - FIRST):
        some = posts[: rows + FIRST]
        batch = pa.RecordBatch.from_pydict({name: [one[name] for one in some] for name in ("id", "text")})
        pinned = PinnedRuleSet(rule_set=rule_set, pins=pins)
        explained(
            "newsgroups_desks, static models",
            lambda made=pinned, schema=batch.schema: made.engine(schema),
            batch,
            rounds,
        )


def forget(engine: Engine) -> None:
    """Let the models forget what they have read: a repeated measurement is no repeated input."""
    for group in engine.groups.values():
        if isinstance(group, ModelGroup):
            group.models.forget()
        if isinstance(group, ModelCascade):
            for models, _ in group.first_tier:
                models.forget()


def shuffled_posts(data: Path, random: np.random.Generator) -> list[dict[str, str]]:
    """Return the posts of 20 Newsgroups, of both splits, in random order."""
    posts = [post for name in ("train", "test") for post in read(data, name)]
    return [posts[place] for place in random.permutation(len(posts))]


def read(data: Path, name: str) -> list[dict[str, str]]:
    path = data / "landing" / "20newsgroups" / f"{name}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


def passages(posts: list[dict[str, str]], random: np.random.Generator) -> list[tuple[str, str]]:
    """Cut posts into passages of various lengths; return the topic and the text of each different one."""
    found: dict[str, str] = {}
    for post in posts:
        words, start = post["text"].split(), 0
        while start < len(words):
            size = int(np.clip(random.lognormal(np.log(MEAN_WORDS) - 0.7**2 / 2, 0.7), 5, 400))
            found.setdefault(" ".join(words[start : start + size]), post["topic"])
            start += size
    return [(topic, text) for text, topic in found.items()]


def prepared(
    base: Path, place: Path, known: list[tuple[str, str]], train: int, method: str
) -> tuple[Any, list[Head]]:
    """Export the trunk, and fit heads on the features of its fp32 form: as separate models would be."""
    encoder = load_base_model(str(base), max_tokens=MAX_TOKENS, dropout=0.0).encoder.eval()
    trunk = place / "trunk"
    tokenizer_file = base / "tokenizer.json"
    make_trunk(encoder, trunk, tokenizer=tokenizer_file, text="text", max_tokens=MAX_TOKENS, method=method)
    digest = bundle_digest(trunk)
    trunk.rename(place / digest)
    tokenizer = load_tokenizer(base, max_tokens=MAX_TOKENS)
    known = sorted(known[: train + train // 2], key=lambda one: len(one[1]))
    features = fp32_features((encoder, tokenizer), [text for _, text in known])
    topics = np.array([topic for topic, _ in known])
    held_out = np.arange(len(known)) % 3 == 0
    names, random, heads = sorted(set(topics)), np.random.default_rng(0), []
    wanted = [{name for name in names if name.startswith(field)} for field in FIELDS]
    wanted += [{name} for name in names]
    wanted += [set(random.choice(names, 2, replace=False).tolist()) for _ in range(MODELS - len(wanted))]
    for number, those in enumerate(wanted):
        truth = np.isin(topics, list(those))
        fitted = LogisticRegression(solver="newton-cholesky").fit(features[~held_out], truth[~held_out])
        bias = float(np.float32(fitted.intercept_[0]))
        head = Head(fitted.coef_[0].astype(np.float32), bias, UNSHOWN, frozenset(those))
        found = suggest_threshold(
            head.probability(features[held_out]).astype(float), truth[held_out], precision=PRECISION
        )
        heads.append(replace(head, threshold=round(found.threshold, 4)) if found else head)
        save_head(heads[-1], place / f"head{number}", number, digest)
    shown = sum(head.threshold != UNSHOWN for head in heads)
    print(
        f"{shown} of {MODELS} heads have a threshold of precision {PRECISION} on new rows, others {UNSHOWN}"
    )
    return (encoder, tokenizer), heads


def save_head(head: Head, folder: Path, number: int, trunk: str) -> None:
    folder.mkdir()
    weight = np.stack([np.zeros_like(head.weight), head.weight])
    save_file({"weight": weight, "bias": np.array([0.0, head.bias], np.float32)}, folder / "head.safetensors")
    BundleInfo(
        format="head",
        label=f"m{number}",
        classes=("no", "yes"),
        text="text",
        max_tokens=MAX_TOKENS,
        parameters=weight.size,
        features=weight.shape[1],
        head="linear",
        trunk=trunk,
    ).save(folder)


def fp32_features(fp32: Any, texts: list[str]) -> np.ndarray:
    """Run the encoder as one would: batches of 32 as they come, padded, mean of the tokens."""
    encoder, tokenizer = fp32
    parts = []
    with torch.inference_mode():
        for start in range(0, len(texts), 32):
            ids, mask = encode(tokenizer, texts[start : start + 32]).padded(slice(None))
            weights = torch.from_numpy(mask)
            states = encoder(input_ids=torch.from_numpy(ids), attention_mask=weights).last_hidden_state
            wide = weights.unsqueeze(-1).to(states.dtype)
            parts.append((states * wide).sum(1) / wide.sum(1))
    return torch.cat(parts).numpy()


def some_rules(texts: list[str], heads: list[Head], place: Path) -> RuleSet:
    """Make 60 patterns and 40 model signals, each with a rule; frequent words settle half of the rows."""
    rare = rare_words(texts)
    patterns = [some_pattern(rare, number) for number in range(EXPLICIT)]
    common = [rf"\b{word}\b" for word in common_words(texts[:5_000])]
    patterns[: len(common)] = common
    signals: dict[str, Any] = {
        f"p{number}": {"kind": "regex", "column": "text", "pattern": pattern}
        for number, pattern in enumerate(patterns)
    }
    when = {name: name for name in signals}
    for number, head in enumerate(heads):
        model = str(place / f"head{number}")
        signals[f"m{number}"] = {"kind": "model", "column": "text", "model": model, "label": "yes"}
        when[f"m{number}"] = f"m{number} >= {head.threshold}"
    rules = [{"name": f"r_{name}", "when": when[name], "then": name} for name in signals]
    return RuleSet.model_validate(
        {"rule_set": "bench", "key": "id", "signals": signals, "rules": rules, "default": "none"}
    )


def common_words(texts: list[str]) -> list[str]:
    """Return words that stand in 1 to 3 % of the texts, as many as it takes to settle half of them."""
    words = [set(re.findall(r"[a-z]{4,12}", text)) for text in texts]
    counts: dict[str, int] = {}
    for found in words:
        for word in found:
            counts[word] = counts.get(word, 0) + 1
    frequent = [word for word, count in sorted(counts.items()) if 0.01 <= count / len(texts) <= 0.03]
    np.random.default_rng(2).shuffle(frequent)
    chosen: list[str] = []
    settled = np.zeros(len(texts), bool)
    for word in frequent[: EXPLICIT - 10]:
        if settled.mean() >= 0.5:
            break
        chosen.append(word)
        settled |= [word in found for found in words]
    return chosen


def decided(hits: np.ndarray, heads: list[Head], features: np.ndarray) -> np.ndarray:
    """Decide as the rule set does: the first rule that is true."""
    sure = [head.probability(features) >= head.threshold for head in heads]
    true = np.concatenate([hits, np.stack(sure)])  # (rules, rows)
    return np.where(true.any(axis=0), true.argmax(axis=0), len(true))


def timed(work: Any) -> tuple[float, Any]:
    began = time.process_time()
    found = work()
    return time.process_time() - began, found


if __name__ == "__main__":
    main()
