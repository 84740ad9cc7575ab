"""A hundred signals on one trunk: training them, answering them, adding one more.

``./run python -m benchmarks.heads`` makes a table of docstrings of the installed packages with a label column
for each of 101 words, and runs the component ``train_heads`` on all-MiniLM-L6-v2: with one label column, with
100, and with one more, each with caches of its own (the last one with those of the 100). CPU seconds of all
threads, in one process after the imports. Then texts are answered by one head and by all.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.tokens import docstring_words
from demo.samples import prepare
from demo.servers.mlflow_server import write_ahead

from modelmill.artifacts import DatasetRef, ModelRef, SignalsRef
from modelmill.settings import Settings
from modelmill.steps import train_heads, trunk
from modelmill.steps.train_heads import TrainHeadsInputs
from modelmill.steps.trunk import TrunkInputs

HEADS = 100


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=4000)
    parser.add_argument("--texts", type=int, default=200)
    options = parser.parse_args()
    _, model = prepare(Settings.from_environment().home)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        dataset = write_table(place / "table", options.rows)
        trunk = run_trunk(place, model)
        training(place, dataset, trunk)
        answering(place, dataset, options.texts)


def write_table(place: Path, rows: int) -> DatasetRef:
    import pyarrow as pa
    from deltalake import write_deltalake

    random = np.random.default_rng(0)
    words = docstring_words(300_000)
    lengths = random.integers(10, 60, rows)
    texts = [
        " ".join(words[at : at + n]) for at, n in zip(random.integers(0, 299_000, rows), lengths, strict=True)
    ]
    common = [word for word, _ in Counter(words).most_common(400) if word.isalpha()][20 : 20 + HEADS + 1]
    columns: dict[str, Any] = {
        "id": [f"{n:06d}" for n in range(rows)],
        "text": texts,
        "split": ["validation" if n % 10 == 0 else "train" for n in range(rows)],
    }
    for number, word in enumerate(common):
        said = [("yes" if word in text.split() else "no") for text in texts]
        # A tenth of the labels is missing, of other rows for each signal. The first one has all of them, so
        # that the trunk reads the same texts for one head as for many.
        columns[f"signal_{number:03d}"] = [
            None if number and (n + number) % 10 == 9 else value for n, value in enumerate(said)
        ]
    write_deltalake(str(place), pa.table(columns))
    labels = tuple(name for name in columns if name.startswith("signal_"))
    return DatasetRef(uri=str(place), version=0, key="id", text="text", labels=labels, split="split")


def step(place: Path, name: str, *, cache: str) -> Any:
    from modelmill.component import StepContext
    from modelmill.registry.tracking import experiment_id, open_run, tracking_client

    write_ahead(place / "mlflow.db")
    client = tracking_client(f"sqlite:///{place}/mlflow.db")
    # Heads are found again within an experiment: each cache has its own.
    experiment = experiment_id(client, cache, artifact_root=place / "artifacts")
    workdir = place / "work" / name
    workdir.mkdir(parents=True)
    (place / cache).mkdir(exist_ok=True)
    settings: Any = None
    return StepContext(
        pipeline="heads",
        step=name,
        step_key=hashlib.sha256(name.encode()).hexdigest(),
        run=open_run(client, experiment, name, name=name, tags={}),
        workdir=workdir,
        cache=place / cache,
        settings=settings,
        progress=lambda *_, **__: None,
        log=lambda _: None,
    )


def run_trunk(place: Path, model: Path) -> ModelRef:
    from modelmill.steps.trunk import TrunkConfig

    config = TrunkConfig(base_model=str(model), max_tokens=64)
    found: ModelRef = trunk.run(config, TrunkInputs(model=None), step(place, "trunk", cache="all")).trunk
    return found


def training(place: Path, dataset: DatasetRef, trunk: ModelRef) -> None:
    one, _ = timed(place, "one", dataset, trunk, dataset.labels[:1], cache="one")
    many, first = timed(place, "hundred", dataset, trunk, dataset.labels[:HEADS], cache="all")
    before = models(first)
    more, second = timed(place, "more", dataset, trunk, dataset.labels, cache="all")
    after = models(second)
    kept = sum(after[name] == model for name, model in before.items())
    print("| training | CPU s | ratio |\n| --- | --- | --- |")
    print(f"| one head | {one:.1f} | 1.00 |")
    print(f"| {HEADS} heads | {many:.1f} | {many / one:.2f} |")
    print(f"| one more | {more:.1f} | {more / many:.3f} of the first {HEADS} |")
    print(f"\n{kept} of {HEADS} heads are the same models, files and all\n")
    (place / "signals.json").write_text(second.model_dump_json())


def models(signals: SignalsRef) -> dict[str, ModelRef]:
    from modelmill.registry.signal_models import read_signals

    return read_signals(signals)


def timed(
    place: Path, name: str, dataset: DatasetRef, trunk: ModelRef, labels: tuple[str, ...], *, cache: str
) -> tuple[float, SignalsRef]:
    from modelmill.registry.bundles import fetch_bundle
    from modelmill.steps.train_heads import TrainHeadsConfig

    context = step(place, name, cache=cache)
    fetch_bundle(trunk, context.cache)
    # Each step is a process of its own: what the one before has left is not collected at this one's expense.
    gc.collect()
    begin = time.process_time()
    found = train_heads.run(
        TrainHeadsConfig(labels=labels), TrainHeadsInputs(dataset=dataset, trunk=trunk), context
    ).signals
    return time.process_time() - begin, found


def answering(place: Path, dataset: DatasetRef, count: int) -> None:
    from modelmill.models.signal_scorer import SignalScorer
    from modelmill.registry.bundles import fetch_bundle
    from modelmill.tables.reading import read_arrow

    texts = read_arrow(dataset, columns=["text"]).column("text").to_pylist()[:count]
    signals = SignalsRef.model_validate_json((place / "signals.json").read_text())
    folders = {name: fetch_bundle(model, place / "all") for name, model in models(signals).items()}
    names = list(folders)[:HEADS]
    scorers = {
        1: SignalScorer({names[0]: folders[names[0]]}, threads=1),
        HEADS: SignalScorer({name: folders[name] for name in names}, threads=1),
    }
    seconds: dict[int, list[float]] = {size: [] for size in scorers}
    for turn in range(6):
        for size in sorted(scorers, reverse=bool(turn % 2)):
            begin = time.process_time()
            scorers[size].scores(texts)
            seconds[size].append(time.process_time() - begin)
    medians = {size: float(np.median(values[1:])) for size, values in seconds.items()}
    print("| answering | texts per CPU second | cost |\n| --- | --- | --- |")
    for size, value in medians.items():
        print(f"| {size} | {count / value:,.0f} | {value / medians[1]:.3f} |")


if __name__ == "__main__":
    main()
