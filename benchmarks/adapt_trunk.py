"""What continued pretraining does to the features of a trunk, and to linear heads on them.

``./run python -m benchmarks.adapt_trunk reuters_r8`` (or ``20newsgroups``) lets all-MiniLM-L6-v2 read train
texts of the corpus, without their labels, as the component ``adapt_trunk`` does, once for each weight of the
features of before and each of five seeds. Then logistic regression is fitted on the features of 50 and of 200
labelled texts a class (of rarer classes all), another draw for each seed, the same one before and after, and
judged on test texts. No test text is read before.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from demo.samples import prepare

from modelmill.datasets.distinct_texts import TextSource, distinct_texts
from modelmill.models.base_model import load_base_model
from modelmill.models.classifier import all_logits, mean_over_tokens
from modelmill.settings import Settings
from modelmill.tokens.texts import TextList
from modelmill.training.adaptation import adapt_encoder
from modelmill.training.options import AdaptationOptions
from modelmill.workspace import Workspace

LABELS = (50, 200)
SEEDS = 5
"""Each has a training and a draw of labelled texts of its own."""
T_QUANTILE = 2.776
"""Student's t at 97.5 %, with four degrees of freedom."""

Features = npt.NDArray[np.float32]
Names = npt.NDArray[np.str_]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("corpus", choices=["reuters_r8", "reuters_r52", "20newsgroups"])
    parser.add_argument("--texts", type=int, default=3000, help="to learn from")
    parser.add_argument("--tests", type=int, default=1500, help="test texts")
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rate", type=float, default=1e-4)
    parser.add_argument("--weights", type=float, nargs="*", default=[0.0, 5.0], help="keep_features")
    options = parser.parse_args()
    torch.set_num_threads(1)
    data, model = prepare(Settings.from_environment().home)
    sides = {split: read(data / "landing" / options.corpus / f"{split}.jsonl") for split in ("train", "test")}
    pool = labelled_pool(sides["train"][1])
    chosen = np.random.default_rng(0).permutation(len(sides["test"][0]))[: options.tests]
    texts = [sides["train"][0][place] for place in pool], [sides["test"][0][place] for place in chosen]
    labels = sides["train"][1][pool], sides["test"][1][chosen]

    def judged(folder: Path, seeds: Sequence[int]) -> list[list[float]]:
        found = [features(folder, side, options.tokens) for side in texts]
        return [accuracies((found[0], labels[0]), (found[1], labels[1]), seed) for seed in seeds]

    before = judged(model, range(SEEDS))
    print("| keep_features | perplexity | cosine | labels a class | before | after | gain (95 %) | CPU s |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |", flush=True)
    for weight in options.weights:
        began, metrics, after = time.process_time(), [], []
        for seed in range(SEEDS):
            with Workspace.temporary(log=lambda _line: None) as workspace:
                settings = AdaptationOptions(
                    base_model=str(model),
                    max_tokens=options.tokens,
                    learning_rate=options.rate,
                    max_rows=options.texts,
                    keep_features=weight,
                    seed=seed,
                )
                folder, found = adapt(sides["train"][0], settings, workspace)
                metrics.append(found)
                after += judged(folder, [seed])
        show(weight, metrics, before, after, time.process_time() - began)


def read(path: Path) -> tuple[list[str], Names]:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [row["text"] for row in rows], np.array([row["topic"] for row in rows])


def labelled_pool(topics: Names) -> npt.NDArray[np.int64]:
    """Return places of a few more texts of each class than the heads learn from."""
    random, most = np.random.default_rng(0), LABELS[-1] + 20
    classes = np.unique(topics)
    return np.concatenate([random.permutation(np.flatnonzero(topics == one))[:most] for one in classes])


def adapt(
    texts: Sequence[str], options: AdaptationOptions, workspace: Workspace
) -> tuple[Path, Mapping[str, float]]:
    import pyarrow as pa
    from deltalake import write_deltalake

    from modelmill.artifacts import TableRef

    place = workspace.workdir / "table"
    write_deltalake(str(place), pa.table({"text": list(texts)}))
    source = TextSource(options.columns, None, options.held_out, options.max_rows)
    found = distinct_texts([TableRef(uri=str(place), version=0)], source)
    nothing = np.zeros(0, dtype=np.uint64)
    adapted = adapt_encoder(found, options, workspace, learned_before=nothing)
    return adapted.folder, adapted.metrics


class _Mean(torch.nn.Module):
    def __init__(self, encoder: Any) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return mean_over_tokens(self.encoder(input_ids=ids, attention_mask=mask)[0], mask)


def features(folder: Path, texts: Sequence[str], max_tokens: int) -> Features:
    base = load_base_model(str(folder), max_tokens=max_tokens, dropout=0.0)
    tokens = TextList(texts).tokens(folder, max_tokens=max_tokens)
    return all_logits(_Mean(base.encoder).eval(), tokens)


def accuracies(train: tuple[Features, Names], test: tuple[Features, Names], draw: int) -> list[float]:
    """Return the accuracy in per cent for each of ``LABELS``."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    found = []
    values, topics = train
    for count in LABELS:
        random = np.random.default_rng(draw)
        rows = np.concatenate(
            [random.permutation(np.flatnonzero(topics == one))[:count] for one in np.unique(topics)]
        )
        head = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=300))
        head.fit(values[rows], topics[rows])
        found.append(100 * float(head.score(*test)))
    return found


def show(
    weight: float,
    metrics: Sequence[Mapping[str, float]],
    before: Sequence[Sequence[float]],
    after: Sequence[Sequence[float]],
    seconds: float,
) -> None:
    """Print a row for each of ``LABELS``: means over the seeds, and the interval of the gain."""

    def mean(name: str) -> float:
        return float(np.mean([each[name] for each in metrics]))

    sides = [mean(f"held_out_perplexity_{side}") for side in ("before", "after")]
    shown = f"{sides[0]:,.0f} to {sides[1]:,.0f} | {mean('held_out_features_kept_after'):.3f}"
    for place, count in enumerate(LABELS):
        was, now = (np.array([each[place] for each in side]) for side in (before, after))
        half = T_QUANTILE * (now - was).std(ddof=1) / SEEDS**0.5
        print(
            f"| {weight:g} | {shown} | {count} | {was.mean():.2f} % | {now.mean():.2f} % | "
            f"{(now - was).mean():+.2f} ± {half:.2f} | {seconds:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
