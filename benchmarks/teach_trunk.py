"""What an encoder that has learned many signals' labels does to a signal with few labels.

``./run python -m benchmarks.teach_trunk`` teaches all-MiniLM-L6-v2, as the component ``teach_trunk`` does, up
to 16 labels of each topic of Reuters R52 and five of each topic of R8. Then logistic regression
is fitted on the features of those rows of R8, before and after, and judged on test texts of R8. Each seed has
a training and a draw of labels of its own. The topics of both are much the same; no test text is read before.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from benchmarks.adapt_trunk import Names, features, read
from demo.samples import prepare
from scipy.stats import t as student

from modelmill.settings import Settings
from modelmill.tasks.examples import labelled_lists
from modelmill.tokens.texts import TextList
from modelmill.training.multi_task import TaughtTexts, teach_encoder
from modelmill.training.options import TeachingOptions
from modelmill.workspace import Workspace

MANY, FEW = 16, 5
"""Labels of each topic, at most: of R52, and of R8."""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--tests", type=int, default=400, help="test texts")
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--epochs", type=float, default=4)
    options = parser.parse_args()
    torch.set_num_threads(1)
    data, model = prepare(Settings.from_environment().home)
    many, few = (read(data / "landing" / name / "train.jsonl") for name in ("reuters_r52", "reuters_r8"))
    tests, topics = read(data / "landing" / "reuters_r8" / "test.jsonl")
    chosen = np.random.default_rng(0).permutation(len(tests))[: options.tests]
    asked = [tests[place] for place in chosen], topics[chosen]
    found = []
    for seed in range(options.seeds):
        began = time.process_time()
        rows = drawn(few[1], FEW, seed)
        learned = [few[0][place] for place in rows], few[1][rows]
        others = drawn(many[1], MANY, seed)
        sources = [
            source("R52", [many[0][place] for place in others], many[1][others]),
            source("R8", *learned),
        ]
        settings = TeachingOptions(
            base_model=str(model), max_tokens=options.tokens, epochs=options.epochs, seed=seed
        )
        with Workspace.temporary(log=lambda _line: None) as workspace:
            nothing = np.zeros(0, dtype=np.uint64)
            taught = teach_encoder(sources, settings, workspace, learned_before=nothing)
            pair = [judged(folder, learned, asked, options.tokens) for folder in (model, taught.folder)]
        found.append(pair)
        print(
            f"seed {seed}: {len(others)} labels of R52, {len(rows)} of R8: {pair[0]:.2f} % before, "
            f"{pair[1]:.2f} % after, {time.process_time() - began:.0f} CPU s",
            flush=True,
        )
    gains = np.diff(found, axis=1).ravel()
    half = student.ppf(0.975, len(gains) - 1) * gains.std(ddof=1) / len(gains) ** 0.5
    before, after = np.mean(found, axis=0)
    print(f"mean: {before:.2f} % before, {after:.2f} % after, gain {gains.mean():+.2f} ± {half:.2f} (95 %)")


def drawn(topics: Names, most: int, seed: int) -> npt.NDArray[np.int64]:
    """Return places of so many rows of each topic, at most."""
    random = np.random.default_rng(seed)
    each = [random.permutation(np.flatnonzero(topics == one))[:most] for one in np.unique(topics)]
    return np.concatenate(each)


def source(name: str, texts: list[str], topics: Names) -> TaughtTexts:
    return TaughtTexts(name, TextList(texts), [labelled_lists(topics.tolist(), [], label=name)])


def judged(folder: Path, train: tuple[list[str], Names], test: tuple[list[str], Names], tokens: int) -> float:
    """Return the accuracy in per cent of a linear model on the features of an encoder."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    head = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=300))
    head.fit(features(folder, train[0], tokens), train[1])
    return 100 * float(head.score(features(folder, test[0], tokens), test[1]))


if __name__ == "__main__":
    main()
