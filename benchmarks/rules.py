"""A rule set of 60 explicit and 40 model signals, beside what a user would do instead.

``./run python -m benchmarks.rules`` takes texts of 20 Newsgroups, exports MiniLM-L6 as a trunk, and fits 40
heads on it (one for each topic, one for each of 20 pairs of topics). The explicit rules settle about half of
the rows. The other way is one Python ``re`` loop for each pattern and one fp32 copy of the model for each
signal: its cost is **extrapolated** from a sample, pattern by pattern and copy by copy, since 40 copies over
all rows would take a day. CPU seconds of all threads, loading and compiling left out on both sides.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from benchmarks.patterns import rare_words, some_pattern
from demo.samples import prepare
from safetensors.numpy import save_file
from sklearn.linear_model import LogisticRegression

from modelmill.rules.engine import Engine
from modelmill.rules.measuring import measured_plan
from modelmill.rules.rule_set import RuleSet
from modelmill.serving.bundle import BundleInfo, bundle_digest
from modelmill.serving.runtime import encode, load_tokenizer
from modelmill.serving.session import RowSession
from modelmill.settings import Settings
from modelmill.signals.models import ModelGroup
from modelmill.training.base_model import load_base_model
from modelmill.training.trunk import make_trunk

MAX_TOKENS = 128
EXPLICIT, MODELS = 60, 40
TRUSTED = 0.8
"""Probability from which a model rule decides."""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=5_000)
    parser.add_argument("--train", type=int, default=1_500, help="rows that the heads are fitted on")
    parser.add_argument("--sample", type=int, default=300, help="rows of the fp32 pass")
    parser.add_argument("--home", type=Path, default=Settings.from_environment().home)
    options = parser.parse_args()
    data, base = prepare(options.home)
    train, test = (read(data / "landing" / "20newsgroups" / f"{name}.jsonl") for name in ("train", "test"))
    random = np.random.default_rng(0)
    train = [train[place] for place in random.permutation(len(train))[: options.train]]
    rows = [test[place] for place in random.integers(0, len(test), options.rows)]
    with tempfile.TemporaryDirectory() as folder:
        fp32, heads = prepared(base, Path(folder), train)
        measure(rows, fp32, heads, Path(folder), sample=options.sample)


def measure(rows: list[dict[str, str]], fp32: Any, heads: Any, place: Path, *, sample: int) -> None:
    texts = [row["text"] for row in rows]
    rule_set = some_rules(texts, place)
    batch = pa.RecordBatch.from_pydict({"id": list(range(len(rows))), "text": texts})
    engine = Engine(rule_set, batch.schema)
    engine.use(measured_plan(engine, batch.slice(0, 500)))
    forget(engine)
    engine.outcomes(batch.slice(0, 1))
    seconds, staged = timed(lambda: engine.outcomes(batch))
    forget(engine)
    full_seconds, full = timed(lambda: engine.full_outcomes(batch))
    if not np.array_equal(staged, full):
        raise SystemExit("the staged decisions differ from those of full evaluation")
    explicit = float((staged < EXPLICIT).mean())

    few = texts[:sample]
    pass_seconds, features = timed(lambda: fp32_features(fp32, few))
    loops = [re.compile(signal.pattern, re.ASCII) for signal in list(rule_set.signals.values())[:EXPLICIT]]
    loop_seconds, hits = timed(lambda: [[bool(one.search(text)) for text in few] for one in loops])
    other = decided(np.array(hits), [head(features) for head in heads])
    equal = float((other == staged[:sample]).mean())

    each, one_pass = seconds / len(rows), pass_seconds / len(few)
    naive = loop_seconds / len(few) + MODELS * one_pass
    repeated = len(rows) - len(set(texts))
    print(f"{len(rows):,} rows ({repeated:,} repeat another), {EXPLICIT} explicit and {MODELS} model signals")
    print(f"explicit rules settle {explicit:.1%}; staged and full decisions are equal on every row")
    print("| CPU ms for each row | | |\n| --- | --- | --- |")
    print(f"| re loops and {MODELS} fp32 copies (extrapolated from {sample} rows) | {naive * 1e3:,.2f} | 1 |")
    for name, cost in (
        ("one plain fp32 pass, batches as they come", one_pass),
        ("every signal on every row", full_seconds / len(rows)),
        ("the engine, stage by stage", each),
    ):
        print(f"| {name} | {cost * 1e3:,.3f} | {naive / cost:,.0f} |")
    print(f"the engine costs {each / one_pass:.3f} of one fp32 pass; decisions equal to fp32's: {equal:.2%}")
    for line in engine.plan.lines()[:8]:
        print("   ", line[:150])


def forget(engine: Engine) -> None:
    """Let the models forget what they have read: a repeated measurement is no repeated input."""
    for group in engine.groups.values():
        if isinstance(group, ModelGroup):
            group.reader.forget()


def read(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def prepared(base: Path, place: Path, train: list[dict[str, str]]) -> tuple[Any, list[Any]]:
    """Export the trunk, and fit heads on the features of its fp32 form: as separate models would be."""
    encoder = load_base_model(str(base), max_tokens=MAX_TOKENS, dropout=0.0).encoder
    trunk = place / "trunk"
    make_trunk(encoder, trunk, tokenizer=base / "tokenizer.json", text="text", max_tokens=MAX_TOKENS)
    digest = bundle_digest(trunk)
    trunk.rename(place / digest)
    tokenizer = load_tokenizer(base, max_tokens=MAX_TOKENS)
    features = trunk_features(place / digest, tokenizer, [row["text"] for row in train])
    topics = sorted({row["topic"] for row in train})
    random, heads = np.random.default_rng(0), []
    for number in range(MODELS):
        wanted = {topics[number]} if number < 20 else set(random.choice(topics, 2, replace=False))
        truth = np.array([row["topic"] in wanted for row in train])
        fitted = LogisticRegression(C=10.0, max_iter=500).fit(features, truth)
        weight = np.stack([np.zeros_like(fitted.coef_[0]), fitted.coef_[0]]).astype(np.float32)
        bias = np.array([0.0, fitted.intercept_[0]], np.float32)
        folder = place / f"head{number}"
        folder.mkdir()
        save_file({"weight": weight, "bias": bias}, folder / "head.safetensors")
        BundleInfo(
            format="head",
            label=f"m{number}",
            classes=("no", "yes"),
            text="text",
            max_tokens=MAX_TOKENS,
            parameters=weight.size,
            features=weight.shape[1],
            head="linear",
            trunk=digest,
        ).save(folder)
        heads.append(lambda found, w=weight[1], b=bias[1]: 1 / (1 + np.exp(-(found @ w + b))))
    return (encoder.eval(), tokenizer), heads


def trunk_features(trunk: Path, tokenizer: Any, texts: list[str]) -> np.ndarray:
    tokens = encode(tokenizer, texts)
    found: dict[int, np.ndarray] = {}
    session = RowSession(trunk / "model.onnx", threads=2)
    session.run(tokens, ["features"], lambda row, values: found.__setitem__(row, values[0].copy()))
    return np.stack([found[row] for row in range(len(texts))])


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


def some_rules(texts: list[str], place: Path) -> RuleSet:
    """Make 60 patterns and 40 model signals, each with a rule; frequent words settle half of the rows."""
    rare = rare_words(texts)
    patterns = [some_pattern(rare, number) for number in range(EXPLICIT)]
    common = [rf"\b{word}\b" for word in ("windows", "god", "game", "car", "space", "drive", "key", "israel")]
    patterns[: len(common)] = common
    signals: dict[str, Any] = {
        f"p{number}": {"kind": "regex", "column": "text", "pattern": pattern}
        for number, pattern in enumerate(patterns)
    }
    for number in range(MODELS):
        signals[f"m{number}"] = {
            "kind": "model",
            "column": "text",
            "model": str(place / f"head{number}"),
            "label": "yes",
        }
    rules = [{"name": f"r_{name}", "when": rule_of(name, one), "then": name} for name, one in signals.items()]
    return RuleSet.model_validate(
        {"rule_set": "bench", "key": "id", "signals": signals, "rules": rules, "default": "none"}
    )


def rule_of(name: str, signal: Mapping[str, Any]) -> str:
    return name if signal["kind"] == "regex" else f"{name} > {TRUSTED}"


def decided(hits: np.ndarray, probabilities: list[np.ndarray]) -> np.ndarray:
    """Decide as the rule set does: the first rule that is true."""
    true = np.concatenate([hits, np.stack(probabilities) > TRUSTED])  # (rules, rows)
    return np.where(true.any(axis=0), true.argmax(axis=0), len(true))


def timed(work: Any) -> tuple[float, Any]:
    began = time.process_time()
    found = work()
    return time.process_time() - began, found


if __name__ == "__main__":
    main()
