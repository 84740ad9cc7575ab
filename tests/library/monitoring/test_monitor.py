"""A scored table against its training data: what is planted is found, and labels may be late."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pyarrow as pa
import pytest
from deltalake import write_deltalake

from modelmill.artifacts import DatasetRef, ModelRef, TableRef
from modelmill.component import StepContext
from modelmill.errors import ConfigError, TableError
from modelmill.models.scorers import load_scorer
from modelmill.monitoring.drift import Numbers
from modelmill.monitoring.rows import text_columns
from modelmill.registry.bundles import log_model
from modelmill.registry.tracking import open_run
from modelmill.steps.monitor import MonitorConfig, MonitorInputs, monitor


@dataclass(frozen=True)
class World:
    """A dataset, a model that learned from it, and whatever is scored."""

    folder: Path
    bundle: Path
    dataset: DatasetRef
    model: ModelRef
    context: StepContext
    rows: Callable[..., list[tuple[str, str]]]

    def scored(
        self, name: str, *, seed: int, rows: int = 300, skill: float = 1.0, **changes: Any
    ) -> TableRef:
        """Write a scored table; ``changes`` replace columns."""
        texts = [text for text, _ in self.rows(rows, seed=seed)]
        columns = self.columns(seed, rows) | {"body": texts} | changes
        probabilities = load_scorer(self.bundle).probabilities(columns["body"])
        best = probabilities.argmax(axis=1)
        classes = ("sport", "trade") if skill > 0 else ("trade", "sport")
        columns |= {
            "prediction": [classes[place] for place in best],
            "score": probabilities.max(axis=1).astype(np.float32),
        }
        return self.table(name, columns)

    def columns(self, seed: int, rows: int) -> dict[str, Any]:
        random, now = np.random.default_rng(seed), datetime.now(UTC)
        return {
            "id": [f"{seed}-{n:04d}" for n in range(rows)],
            "price": random.normal(10, 2, rows),
            "source": random.choice(["web", "app", "mail"], rows, p=[0.6, 0.3, 0.1]),
            "url": [f"http://x/{seed}/{n}" for n in range(rows)],
            "seen": [now - timedelta(hours=n) for n in range(rows)],
        }

    def table(self, name: str, columns: dict[str, Any]) -> TableRef:
        place = self.folder / name
        write_deltalake(str(place), pa.table(columns))
        return TableRef(uri=str(place), version=0)

    def run(self, scored: TableRef, *, labels: TableRef | None = None, **config: Any) -> dict[str, Any]:
        """Run the step; return its report, the alarms and the events."""
        key = f"{len(list(self.folder.iterdir())):064d}"
        run = open_run(self.context.run.client, self.context.run.experiment_id, key, name="m", tags={})
        settings = MonitorConfig(name="topics", **config)
        inputs = MonitorInputs(scored=scored, dataset=self.dataset, model=self.model, labels=labels)
        outputs = monitor.run(settings, inputs, replace(self.context, run=run, step_key=key))
        report: dict[str, Any] = json.loads(
            Path(mlflow.artifacts.download_artifacts(outputs.report.uri)).read_text()
        )
        assert tuple(report["alarms"]) == outputs.report.alarms
        assert monitor.events is not None
        report["events"] = monitor.events(settings, outputs)
        report["files"] = {item.path for item in run.client.list_artifacts(run.run_id)}
        return report


@pytest.fixture
def world(
    tmp_path: Path,
    make_bundle: Callable[..., Path],
    topic_rows: Callable[..., list[tuple[str, str]]],
    step_context: StepContext,
) -> World:
    bundle = make_bundle("good", skill=0.9)
    learned = topic_rows(600, seed=1)
    columns = {
        "body": [text for text, _ in learned],
        "topic": [topic for _, topic in learned],
        "split": ["train"] * 400 + ["test"] * 200,
    }
    dataset = DatasetRef(
        uri=str(tmp_path / "learned"), version=0, key="id", text="body", labels=("topic",), split="split"
    )
    model = log_model(bundle, role="exported", dataset=dataset, context=step_context)
    found = World(tmp_path, bundle, dataset, model, step_context, topic_rows)
    found.table("learned", found.columns(1, 600) | columns)
    return found


def drifted(report: dict[str, Any]) -> set[str]:
    return {column["name"] for column in report["columns"] if column["drifted"]}


def truth(world: World, seed: int, rows: int = 300) -> list[str | None]:
    return [topic for _, topic in world.rows(rows, seed=seed)]


def test_rows_like_those_learned_from_raise_no_alarm(world: World) -> None:
    for seed in range(2, 7):
        report = world.run(world.scored(f"same-{seed}", seed=seed))
        assert report["alarms"] == []
        assert report["events"] == ()
    names = {column["name"] for column in report["columns"]}
    assert names == {"price", "source", "body: characters", "body: share of new words", "prediction", "score"}
    assert report["skipped"] == {"seen": "a time", "url": "fewer than 5 rows for each value"}
    assert report["files"] == {"monitor.json", "drift.png", "shares.png"}


def test_planted_drift_is_found_and_starts_a_retraining(world: World) -> None:
    texts = [f"{text} tariff embargo quota" for text, _ in world.rows(300, seed=9)]
    scored = world.scored(
        "changed",
        seed=9,
        price=np.random.default_rng(9).normal(12, 2, 300),
        source=["app"] * 300,
        body=texts,
    )
    report = world.run(scored)
    assert {"price", "source", "body: characters", "body: share of new words"} <= drifted(report)
    assert len(report["alarms"]) == len(drifted(report))
    assert report["events"] == ("modelmill-drift://topics",)
    assert all("limit 0.1" in line for line in report["alarms"])
    only = world.run(scored, columns=("price",))
    assert "source" not in {column["name"] for column in only["columns"]}


def test_missing_values_that_come_up_are_drift(world: World) -> None:
    price = np.random.default_rng(3).normal(10, 2, 300)
    holes = [None if n % 4 == 0 else value for n, value in enumerate(price)]
    report = world.run(world.scored("holes", seed=3, price=pa.array(holes, pa.float64())))
    assert drifted(report) == {"price"}


def test_rows_that_the_model_learned_from_are_left_out(world: World) -> None:
    report = world.run(world.scored("learned-again", seed=1, rows=600))
    assert report["learned_rows"] >= 400
    assert report["rows"] == 600
    # What is left is the test split, and whatever differs from it.
    assert report["compared_rows"] == 600 - report["learned_rows"]


def test_too_few_rows_are_not_judged(world: World) -> None:
    report = world.run(world.scored("few", seed=4, rows=50, price=np.full(50, 99.0)))
    assert report["columns"] == []
    assert report["not_compared"].startswith("50 new rows, 400 train rows and 200 held-out rows")
    assert report["alarms"] == []


def test_answers_that_are_wrong_are_found(world: World) -> None:
    right = world.run(world.scored("right", seed=5, topic=truth(world, 5)), label="topic")
    assert right["alarms"] == []
    assert right["quality"]["judged_rows"] == 300 - right["learned_rows"]
    assert right["quality"]["accuracy"] == pytest.approx(right["quality"]["reference_accuracy"], abs=0.05)
    wrong = world.run(
        world.scored("wrong", seed=6, skill=-1, topic=truth(world, 6)), label="topic", time="seen"
    )
    assert any(line.startswith("accuracy has dropped") for line in wrong["alarms"])
    assert "quality.png" in wrong["files"]


def test_labels_that_are_late_are_waited_for(world: World) -> None:
    # Rows are an hour apart. Of the last 100 hours only wrong answers have a label: complaints come early.
    labels: list[str | None] = truth(world, 7)
    flipped = {"sport": "trade", "trade": "sport"}
    # Blanks around them are no other classes, as in a dataset.
    early = [flipped[str(label)] if n < 100 else f"{label} " for n, label in enumerate(labels)]
    scored = world.scored("late", seed=7)
    table = world.table("labels", {"id": world.columns(7, 300)["id"], "topic": early})
    asked = {"labels": table, "label": "topic", "key": "id", "time": "seen"}
    report = world.run(scored, label_delay_hours=100, **asked)
    assert report["quality"]["too_young"] == pytest.approx(100, abs=1)
    assert report["quality"]["not_judged"] is None
    assert report["alarms"] == []
    assert any("accuracy" in line for line in world.run(scored, **asked)["alarms"])
    # A label for every third row is not enough, right or wrong.
    some = world.table("some", {"id": [f"7-{n:04d}" for n in range(0, 300, 3)], "topic": ["x"] * 100})
    report = world.run(scored, **{**asked, "labels": some}, min_rows=20)
    assert report["quality"]["not_judged"].endswith(
        "of the rows old enough are labelled; at least 50% must be"
    )
    assert report["quality"]["accuracy"] is None
    assert report["alarms"] == []


def test_wrong_configurations_are_named(world: World) -> None:
    scored = world.scored("any", seed=8)
    labels = world.table("twice", {"id": ["a", "a"], "topic": ["sport", "trade"]})
    foreign = world.scored("foreign", seed=8, model=["models:/topics/7"] * 300)
    with pytest.raises(ConfigError, match="rows scored by models:/topics/7, and the model models:/m-"):
        world.run(foreign)
    numbers = world.table("numbers", {"id": ["a"], "topic": [1.5]})
    for kind, said, config in (
        (TableError, "did you mean 'price'", {"columns": ("prise",)}),
        (
            ConfigError,
            "holds numbers or classes; got 'seen: a time'",
            {"columns": ("seen",)},
        ),
        (ConfigError, "label_delay_hours needs the age", {"label_delay_hours": 1, "label": "source"}),
        (TableError, "the time of a row is a timestamp", {"label": "source", "time": "url"}),
        (ConfigError, "needs the columns key and label", {"labels": labels, "label": "topic"}),
        (TableError, "must be unique", {"labels": labels, "label": "topic", "key": "id"}),
        (ConfigError, "one class a row", {"labels": numbers, "label": "topic", "key": "id"}),
    ):
        with pytest.raises(kind, match=said):
            world.run(scored, **config)


@pytest.mark.parametrize("target", ["classes", "number"])
def test_sets_and_numbers_are_compared_as_what_they_are(
    target: Any, world: World, make_bundle: Callable[..., Path], topic_rows: Callable[..., Any]
) -> None:
    bundle, learned = make_bundle(target, target=target), topic_rows(600, seed=1)
    labels = [float(n % 7) if target == "number" else [topic] for n, (_, topic) in enumerate(learned)]
    columns = {"id": list(range(600)), "body": [text for text, _ in learned], "topic": labels}
    world.table("own", columns | {"split": ["train"] * 400 + ["test"] * 200})
    dataset = world.dataset.model_copy(update={"uri": str(world.folder / "own")})
    model = log_model(bundle, role="exported", dataset=dataset, context=world.context)
    own = replace(world, bundle=bundle, dataset=dataset, model=model)
    scorer = load_scorer(bundle)
    found = []
    for topics in (["sport", "trade"], ["sport"]):
        rows = [text for text, topic in topic_rows(600, seed=5) if topic in topics]
        answers, scores = scorer.info.answers(scorer.logits(rows))
        columns = {"body": rows, "prediction": answers, "score": scores}
        found.append("prediction" in drifted(own.run(own.table("-".join(topics), columns))))
    assert found == [False, True]
    labelled = own.table("labelled", columns | {"topic": ["1"] * len(rows)})
    with pytest.raises(ConfigError, match="one class a row"):
        own.run(labelled, label="topic")


def test_new_words_are_seen_without_spaces_between_them() -> None:
    words = ["天气", "音乐", "学校", "电影", "价格", "银行"]
    known = [" ".join(words[n % 6 :]).replace(" ", "的") for n in range(30)]
    other = [text.replace("天气", "气天").replace("银行", "行银") for text in known]
    learned, same, new = (pa.chunked_array([texts]) for texts in (known, known[:6], other))
    _, found = text_columns("body", learned, same, new)
    assert isinstance(found, Numbers)
    assert found.reference.max() == 0
    assert found.current.min() > 0.1, "the characters are known, what stands beside them is not"
    _, english = text_columns("body", *(pa.chunked_array([[text]]) for text in ("a b", "b a c", "B, d e f")))
    assert isinstance(english, Numbers)
    assert (english.reference.tolist(), english.current.tolist()) == ([1 / 3], [0.75])
