"""A new trunk below a hundred champions: what it costs, under load, and with kills in the middle.

``./run python -m benchmarks.trunk_replacement`` makes the table of :mod:`benchmarks.heads` with a test split,
and trains 100 heads on all-MiniLM-L6-v2 that reads 48 tokens: the champions. Then:

``cost``: one head more on that trunk (the path of the 101st head); then all 100 in one pass on another trunk,
which reads 64 tokens. CPU seconds of all threads, in one process after the imports. The forecast is made
before that pass: from a pilot of 32 texts, and from what the heads took on the old trunk.

``load``: the step ``replace_trunk`` judges and moves them while threads ask a service for all signals; then
all is rolled back, as ``modelmill registry rollback --together`` does it.

``kills``: processes that move 100 registered models (with two versions each, and no files) to and fro are
killed at random times. After each kill a new reader looks, as a service does that starts; then whoever comes
finishes the move.

An answer is mixed if its models are not all of one set, or if a value is not the one of that set.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random

from benchmarks.heads import HEADS, models, timed, write_table
from benchmarks.heads import step as plain_step
from benchmarks.joint_promotions import promotions_to
from demo.samples import prepare

from modelmill.artifacts import DatasetRef, ModelRef, SignalsRef
from modelmill.component import StepContext
from modelmill.registry import champion, joint_ledger, joint_moves
from modelmill.registry.champion import Registry
from modelmill.registry.versions import champions_of
from modelmill.settings import Settings

TURN_SECONDS = 1.0
"""Within which only its own process follows a move, here; 30 by default."""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--part", choices=("heads", "kills"), action="append")
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    home = Settings.from_environment().home
    champion.TURN_SECONDS = TURN_SECONDS
    for part in options.part or ("heads", "kills"):
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder)
            os.environ |= {
                "MODELMILL_HOME": str(place / "home"),
                "MLFLOW_TRACKING_URI": f"sqlite:///{place}/mlflow.db",
            }
            if part == "heads":
                heads(place, prepare(home)[1], options.rows)
            else:
                kills(options.kills, Random(options.seed))


def heads(place: Path, base: Path, rows: int) -> None:
    """Parts ``cost`` and ``load``."""
    dataset = with_test_rows(write_table(place / "table", rows))
    labels = dataset.labels[:HEADS]
    signals = cost(place, base, dataset, labels)
    dataset = dataset.model_copy(update={"labels": labels})
    with Load(labels, sample(dataset, 4)) as load:
        move_and_back(place, dataset, signals, load)
    load.report()


def with_test_rows(dataset: DatasetRef) -> DatasetRef:
    """A fifth of the rows becomes the test split."""
    import pyarrow as pa
    from deltalake import DeltaTable, write_deltalake

    table = DeltaTable(dataset.uri).to_pyarrow_table()
    split = [
        "test" if number % 5 == 1 else value for number, value in enumerate(table.column("split").to_pylist())
    ]
    at = table.column_names.index("split")
    write_deltalake(
        dataset.uri, table.set_column(at, "split", pa.array(split)), mode="overwrite", schema_mode="overwrite"
    )
    return dataset.model_copy(update={"version": 1})


def sample(dataset: DatasetRef, count: int) -> list[str]:
    from modelmill.tables.reading import read_arrow

    found: list[str] = read_arrow(dataset, columns=["text"]).column("text").to_pylist()[:count]
    return found


def context(place: Path, name: str) -> StepContext:
    """A step's context, all with one cache, and with the settings of this deployment."""
    found: StepContext = plain_step(place, name, cache="all")
    return replace(found, settings=Settings.from_environment())


def make_trunk(place: Path, base: Path, *, tokens: int) -> ModelRef:
    from modelmill.steps import trunk
    from modelmill.steps.trunk import TrunkConfig, TrunkInputs

    config = TrunkConfig(base_model=str(base), max_tokens=tokens)
    found: ModelRef = trunk.run(config, TrunkInputs(), context(place, f"trunk-{tokens}")).trunk
    return found


def cost(place: Path, base: Path, dataset: DatasetRef, labels: tuple[str, ...]) -> SignalsRef:
    """Train on both trunks, print what it takes, and make the heads on the old one champions."""
    old, new = make_trunk(place, base, tokens=48), make_trunk(place, base, tokens=64)
    first, signals = timed(place, "old", dataset, old, labels, cache="all")
    one_more, _ = timed(place, "one more", dataset, old, dataset.labels, cache="all")
    move(list(models(signals)), 1, "first")
    forecast = pilot(place, new, dataset) + heads_alone(place, old, dataset, first)
    whole, moved = timed(place, "new", dataset, new, labels, cache="all")
    print("| training | CPU s | a head | to the path of the 101st head |\n| --- | --- | --- | --- |")
    print(f"| the 101st head on the old trunk | {one_more:.2f} | {one_more:.3f} | 1.00 |")
    each = whole / HEADS
    print(f"| {HEADS} heads on the new trunk, one pass | {whole:.1f} | {each:.3f} | {each / one_more:.2f} |")
    print(
        f"\nForecast before the pass: {forecast:.1f} CPU s, {forecast / whole - 1:+.0%} of what it took\n",
        flush=True,
    )
    return moved


def pilot(place: Path, trunk: ModelRef, dataset: DatasetRef) -> float:
    """CPU seconds that a trunk will take for all train and validation texts, as the step forecasts it."""
    from modelmill.models.trunk import Trunk
    from modelmill.registry.bundles import fetch_bundle
    from modelmill.system.cpu import usable_cores
    from modelmill.tables.reading import read_arrow
    from modelmill.tokens.contents import load_reader
    from modelmill.training.features import forecast_cpu_seconds

    folder = fetch_bundle(trunk, place / "all")
    loaded = Trunk(folder, threads=usable_cores())
    rows = read_arrow(dataset, columns=["text", "split"]).to_pylist()
    texts = [row["text"] for row in rows if row["split"] != "test"]
    return forecast_cpu_seconds(loaded, load_reader(folder, max_tokens=loaded.info.max_tokens).encode(texts))


def heads_alone(place: Path, old: ModelRef, dataset: DatasetRef, whole: float) -> float:
    """CPU seconds of the training on the old trunk without its pass."""
    return max(whole - pilot(place, old, dataset), 0.0)


@dataclass
class Load:
    """A service in this process, and threads that ask it for all signals."""

    names: Sequence[str]
    texts: Sequence[str]
    answers: list[tuple[tuple[int, ...], str]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def __enter__(self) -> Load:
        from fastapi.testclient import TestClient

        from modelmill.http_service import create_app
        from modelmill.serving.config import ServeConfig
        from modelmill.serving.service import Service

        config = ServeConfig(poll_seconds=0.2, threads=1, models=tuple(self.names))
        self.service = Service(config, Settings.from_environment())
        self.client = TestClient(create_app(self.service))
        self.client.__enter__()
        while not self.service.state().ready:
            time.sleep(0.1)
        self.finished = threading.Event()
        self.threads = [threading.Thread(target=self._ask, daemon=True) for _ in range(2)]
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.finished.set()
        for thread in self.threads:
            thread.join()
        self.client.__exit__(None, None, None)

    def _ask(self) -> None:
        body = {"rows": [{"text": text} for text in self.texts]}
        while not self.finished.is_set():
            response = self.client.post("/v1/predict", json=body)
            if response.status_code != 200:
                self.problems.append(response.text)
                continue
            found = response.json()
            self.answers.append(
                (tuple(found["models"][name]["version"] for name in self.names), repr(found["rows"]))
            )
            time.sleep(0.2)  # 2 cores: leave most of them to what moves

    def report(self) -> None:
        """Print how many answers there were, how many failed, and how many are of no set."""
        values: dict[tuple[int, ...], Counter[str]] = {}
        for versions, rows in self.answers:
            values.setdefault(versions, Counter())[rows] += 1
        allowed = {(1,) * len(self.names), self.moved}
        mixed = sum(sum(found.values()) for versions, found in values.items() if versions not in allowed)
        mixed += sum(
            sum(found.values()) - max(found.values())
            for versions, found in values.items()
            if versions in allowed
        )
        asked = len(self.answers) + len(self.problems)
        print(f"| answers of {len(self.names)} signals to {len(self.texts)} rows | {asked} |")
        print(f"| failed | {len(self.problems)} |\n| mixed | {mixed} |")
        for versions, found in values.items():
            shown = "old" if versions == (1,) * len(self.names) else "new"
            print(f"| {shown if versions in allowed else 'neither'} | {sum(found.values())} |")

    def set_moved(self, names: Sequence[str]) -> None:
        """Say which signals the moved set has on the new trunk."""
        self.moved = tuple(2 if name in names else 1 for name in self.names)


def move_and_back(place: Path, dataset: DatasetRef, signals: SignalsRef, load: Load) -> None:
    from modelmill.registry.joint_promotion import rollback_together
    from modelmill.steps import replace_trunk
    from modelmill.steps.replace_trunk import ReplaceTrunkConfig, ReplaceTrunkInputs

    lines: list[str] = []
    own = replace(context(place, "replace"), log=lines.append)
    began, cpu = time.monotonic(), time.process_time()
    # The floors would be about the champions, which no gate has judged.
    config = ReplaceTrunkConfig(max_drift=None, min_recall=None, max_calibration_error=None, resamples=500)
    found = replace_trunk.run(config, ReplaceTrunkInputs(dataset=dataset, signals=signals), own)
    seconds, cpu = time.monotonic() - began, time.process_time() - cpu
    moved = [name for name, model in models(found.signals).items() if model.uri.endswith("/2")]
    load.set_moved(moved)
    time.sleep(2)
    print("\n".join(line for line in lines if "signals:" in line or "joint move" in line))
    print(f"\n| the step, under load | {seconds:.0f} s, {cpu:.0f} CPU s with the load's |\n| --- | --- |")
    settings = Settings.from_environment()
    replaced = joint_ledger.behind(settings).number
    began = time.monotonic()
    rollback_together(replaced, settings, why="benchmark", say=lambda _: None)
    print(f"| rollback of {len(moved)} heads | {time.monotonic() - began:.1f} s |")


def move(names: Sequence[str], to: int, key: str, begun: Connection | None = None) -> None:
    """Move all to a version, as a process of its own does."""
    from modelmill.registry.tracking import tracking_client

    settings = Settings.from_environment()
    champion.TURN_SECONDS = TURN_SECONDS
    registry = Registry(tracking_client(settings.tracking_uri), settings, say=lambda _: None)
    if begun is not None:
        registry.client.search_experiments()
        begun.send("begun")
    joint_moves.move_together(registry, names, promotions_to(to, key), step_key=key)


def kills(count: int, random: Random) -> None:
    """Kill movers, and look what is left."""
    from modelmill.registry.tracking import tracking_client

    settings = Settings.from_environment()
    registry = Registry(tracking_client(settings.tracking_uri), settings, say=lambda _: None)
    names = [f"signal_{number:03d}" for number in range(HEADS)]
    for name in names:
        registry.client.create_registered_model(name)
        for _ in range(2):
            registry.client.create_model_version(name, source="file:///nowhere")
    move(names, 1, "first")
    began, cpu = time.monotonic(), time.process_time()
    move(names, 2, "whole")
    longest, cpu = time.monotonic() - began, time.process_time() - cpu
    forks = multiprocessing.get_context("forkserver")
    forks.set_forkserver_preload(["mlflow", "modelmill.registry.joint_moves"])
    outcomes: Counter[str] = Counter()
    for number in range(count):
        (now,) = versions(registry, settings, names)
        here, there = forks.Pipe()
        mover = forks.Process(target=move, args=(names, 3 - now, f"kill-{number}", there))
        mover.start()
        here.recv()
        mover.join(random.uniform(0, longest))
        mover.kill()
        mover.join()
        seen, mixture = versions(registry, settings, names), set(aliases(registry, names).values())
        outcomes["between" if len(seen) > 1 else "old" if seen == {now} else "new"] += 1
        outcomes["with aliases that were a mixture"] += len(mixture) > 1
        joint_moves.finish_open_move(registry)
        outcomes["that ended otherwise"] += set(aliases(registry, names).values()) != seen
    print(f"| a whole move of {len(names)} champions | {longest:.1f} s, {cpu:.1f} CPU s |\n| --- | --- |")
    print(f"| {count} kills | {', '.join(f'{value} {name}' for name, value in outcomes.items())} |")
    print(f"| joint moves in the ledger | {joint_ledger.behind(settings).number} |", flush=True)


def aliases(registry: Registry, names: Sequence[str]) -> dict[str, int]:
    return champions_of(registry.client, names)


def versions(registry: Registry, settings: Settings, names: Sequence[str]) -> set[int]:
    """What a service that starts now would answer with."""

    def ask() -> dict[str, dict[str, int]]:
        return {name: {"champion": version} for name, version in aliases(registry, names).items()}

    found = joint_moves.ChampionReader(settings).read(ask).aliases
    return {found[name]["champion"] for name in names}


if __name__ == "__main__":
    main()
