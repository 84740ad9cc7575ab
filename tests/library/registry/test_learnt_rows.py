"""A model gets no credit for test rows that it, or a model that it was made from, has learnt from."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from deltalake import write_deltalake
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from modelmill.artifacts import DatasetRef, ModelRef, VerdictRef
from modelmill.component import StepContext
from modelmill.datasets.overlap import find_copies
from modelmill.registry import promotion
from modelmill.registry.bundles import log_model
from modelmill.registry.gate_report import GateReport
from modelmill.registry.learnt_rows import TooFewRowsError, UnknownRowsError, learnt_rows
from modelmill.registry.lineage import Taught, taught_by, taught_tags
from modelmill.registry.tracking import tracking_client
from modelmill.steps.gate import GateConfig, GateInputs
from modelmill.steps.gate import run as run_gate

Accepted = Callable[..., VerdictRef]

ROWS = 200


def text(number: int) -> str:
    """Return a text that is like no other."""
    word = "goal match" if number % 2 else "bank share"
    return " ".join([word, *(f"word{number}x{place}" for place in range(10))])


def written(place: Path, test: set[int], *, changed: str = "", rows: int = ROWS) -> DatasetRef:
    """Write a dataset whose test rows are named."""
    columns = {
        "id": [f"row-{number}" for number in range(rows)],
        "body": [f"{text(number)}{changed}" for number in range(rows)],
        "topic": ["sport" if number % 2 else "trade" for number in range(rows)],
        "split": [
            "test" if number in test else "validation" if number % 10 < 2 else "train"
            for number in range(rows)
        ],
    }
    write_deltalake(str(place), pa.table(columns))
    return DatasetRef(uri=str(place), version=0, key="id", text="body", labels=("topic",), split="split")


@pytest.fixture
def logged(make_bundle: Callable[..., Path], step_context: StepContext) -> Callable[..., ModelRef]:
    """Return a function that logs a model with the dataset that it learnt from."""
    numbers = itertools.count()

    def log(dataset: DatasetRef, parent: ModelRef | None = None, **how: float) -> ModelRef:
        folder = make_bundle(f"model-{next(numbers)}", **how)
        return log_model(folder, role="exported", dataset=dataset, context=step_context, parent=parent)

    return log


def judged(dataset: DatasetRef, challenger: ModelRef, context: StepContext, **config: object) -> GateReport:
    options = GateConfig.model_validate({"name": "topics", "resamples": 300, **config})
    verdict = run_gate(options, GateInputs(dataset=dataset, challenger=challenger), context).verdict
    path = context.run.client.download_artifacts(verdict.run_id, "gate/verdict.json")
    return GateReport.model_validate_json(Path(path).read_text())


def test_copies_are_those_that_every_pair_compared_gives() -> None:
    rng = np.random.default_rng(0)
    words = [f"w{number}" for number in range(30)]
    others = [" ".join(rng.choice(words, 8)) for _ in range(150)]
    texts = [" ".join(rng.choice(words, 8)) for _ in range(30)]
    for number, source in enumerate(others[:60]):
        changed = source.split()
        changed[number % 8] = "else"
        texts += [source.upper() if number % 3 == 0 else " ".join(changed) if number % 3 == 1 else source]

    def shingles(one: str) -> set[tuple[str, str]]:
        return set(itertools.pairwise(one.lower().split()))

    def alike(one: str, other: str) -> bool:
        mine, its = shingles(one), shingles(other)
        return len(mine & its) / len(mine | its) >= 0.55

    found = find_copies(pa.array(texts), pa.array(others), threshold=0.55)
    assert found.exact.tolist() == [one in others for one in texts]
    assert found.any.tolist() == [any(alike(one, other) for other in others) for one in texts]
    assert not find_copies(pa.array(texts), pa.array(others), threshold=None).near.any()
    assert not find_copies(pa.array(texts), pa.array([], pa.string()), threshold=0.5).any.any()


def test_rows_that_the_champion_learnt_from_are_left_out(
    tmp_path: Path,
    logged: Callable[..., ModelRef],
    make_bundle: Callable[..., Path],
    step_context: StepContext,
) -> None:
    """Two thirds of the new test rows had been the champion's train rows, some of them as near copies."""
    before = written(tmp_path / "before", set(range(60)))
    after = written(tmp_path / "after", set(range(40, 160)))
    changed = written(tmp_path / "changed", set(range(40, 160)), changed=" more")
    teacher = logged(before)
    champion = logged(before, teacher)
    first = judged(before, champion, step_context)
    assert (first.rows, first.left_out) == (60, ())
    verdict = GateConfig(name="topics", resamples=300)
    promotion.promote(
        run_gate(verdict, GateInputs(dataset=before, challenger=champion), step_context).verdict, step_context
    )
    challenger = logged(after, tweak=0.001)
    report = judged(after, challenger, step_context)
    assert (report.rows, report.left_out_rows) == (20, 100)
    (one,) = report.left_out
    assert (one.models, one.same, one.near) == (("champion",), 100, 0)
    assert all(check.rows in (10, 20, None) for check in report.checks)
    report = judged(changed, logged(changed, tweak=0.002), step_context)
    assert (report.rows, report.left_out_rows) == (20, 100)
    assert (report.left_out[0].same, report.left_out[0].near) == (0, 100)
    assert "near copies of 100 more" in report.left_out[0].sentence
    # What an encoder was taught of several datasets is learnt too.
    taught = log_model(
        make_bundle("taught"), role="base", context=step_context, more_tags=taught_tags([changed, before])
    )
    report = judged(after, logged(after, taught, tweak=0.005), step_context)
    told = {name for one in report.left_out for name in one.models}
    assert told == {"challenger", "champion"}, (report.left_out, str(before))
    # A student of the new split whose teacher is of the old one: what the teacher knows counts too.
    report = judged(after, logged(after, teacher, tweak=0.003), step_context)
    assert report.left_out[0].models == ("challenger", "champion")
    sliced = {"check": "slice", "column": "topic", "min_rows": 1}
    report = judged(after, logged(after, tweak=0.004), step_context, checks=[sliced])
    assert sum(check.rows or 0 for check in report.checks if check.check == "slice") == 20


def test_what_mlflow_does_not_say_of_an_encoder_is_not_taken_for_nothing(
    make_bundle: Callable[..., Path], step_context: StepContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = str(log_model(make_bundle("early"), role="base", context=step_context))
    client = tracking_client(step_context.settings.tracking_uri)
    assert taught_by(encoder, client) == []
    get_run = client.get_run

    def not_there(run_id: str) -> Run:
        return get_run("0" * len(run_id))

    def late(_run_id: str) -> Run:
        raise MlflowException("read timed out")

    monkeypatch.setattr(client, "get_run", not_there)
    assert taught_by(encoder, client) == [Taught(encoder, None)]
    monkeypatch.setattr(client, "get_run", late)
    monkeypatch.setattr("modelmill.registry.versions.time.sleep", lambda _seconds: None)
    with pytest.raises(MlflowException, match="timed out"):
        taught_by(encoder, client)


def test_too_few_rows_are_no_base_for_a_verdict(
    tmp_path: Path,
    logged: Callable[..., ModelRef],
    accepted: Accepted,
    step_context: StepContext,
) -> None:
    before = written(tmp_path / "before", set(range(60)))
    after = written(tmp_path / "after", set(range(50, 160)))
    promotion.promote(accepted(logged(before)), step_context)
    with pytest.raises(TooFewRowsError, match=r"at least 20 test rows must be left .*got .10 of 110"):
        judged(after, logged(after, tweak=0.001), step_context)
    assert judged(after, logged(after, tweak=0.002), step_context, min_rows=10).rows == 10


def test_a_dataset_that_is_gone_is_said_to_be(
    tmp_path: Path,
    logged: Callable[..., ModelRef],
    accepted: Accepted,
    step_context: StepContext,
) -> None:
    before = written(tmp_path / "before", set(range(60)))
    after = written(tmp_path / "after", set(range(40, 160)))
    promotion.promote(accepted(logged(before)), step_context)
    shutil.rmtree(before.uri)
    with pytest.raises(UnknownRowsError, match="lost_datasets: compare"):
        judged(after, logged(after, tweak=0.001), step_context)
    report = judged(after, logged(after, tweak=0.002), step_context, lost_datasets="compare")
    assert (report.rows, report.left_out_rows) == (120, 0)
    assert report.left_out[0].sentence.startswith("what the champion learnt from is not known")


def test_no_resplit_gives_credit_for_learnt_rows(
    tmp_path: Path, logged: Callable[..., ModelRef], step_context: StepContext
) -> None:
    """benchmarks/gate.py does so a thousand times."""
    rng = np.random.default_rng(0)
    test = {int(number) for number in rng.choice(ROWS, 40, replace=False)}
    champion = logged(written(tmp_path / "before", test))
    for seed in range(10):
        rows = [int(number) for number in rng.choice(ROWS, 60, replace=False)]
        after = DatasetRef(uri="/new", version=seed, key="id", text="body", labels=("topic",), split="split")
        texts = [f"{text(number)}{' again' * (number % 2)}" for number in rows]
        learnt, _ = learnt_rows({"champion": champion}, after, texts, step_context.run.client)
        assert learnt.tolist() == [number not in test for number in rows]
