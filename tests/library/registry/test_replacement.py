"""Heads on a new trunk: each is judged beside its old self, and what does not regress moves together."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import write_deltalake
from safetensors.numpy import load_file, save_file

from modelmill.artifacts import DatasetRef, ModelRef, SignalsRef, VerdictRef
from modelmill.component import StepContext
from modelmill.errors import GateError
from modelmill.models.bundle import BundleInfo
from modelmill.registry import joint_ledger, promotion
from modelmill.registry.bundles import fetch_bundle, log_model
from modelmill.registry.champion import Registry, alias_version
from modelmill.registry.joint_promotion import rollback_together
from modelmill.registry.ledger import entries, head
from modelmill.registry.signal_models import log_signals, read_signals
from modelmill.settings import Settings
from modelmill.steps import replace_trunk, train_heads, trunk
from modelmill.steps.replace_trunk import ReplaceTrunkConfig, ReplaceTrunkInputs, ReplaceTrunkOutputs
from modelmill.steps.train_heads import TrainHeadsConfig, TrainHeadsInputs
from modelmill.steps.trunk import TrunkConfig, TrunkInputs
from modelmill.tables.reading import read_arrow

SIGNALS = ("goal", "match", "bank", "share")
NextStep = Callable[[str], StepContext]


@pytest.fixture
def dataset(tmp_path: Path, topic_rows: Callable[..., list[tuple[str, str]]]) -> DatasetRef:
    """Texts, and for each of four words whether it is in them."""
    texts = [text for text, _ in topic_rows(240)]
    columns: dict[str, Any] = {
        "id": [f"{n:03d}" for n in range(240)],
        "body": texts,
        "split": ["train"] * 140 + ["validation"] * 40 + ["test"] * 60,
    }
    columns |= {word: [("yes" if word in text.split() else "no") for text in texts] for word in SIGNALS}
    uri = str(tmp_path / "tables" / "signals")
    write_deltalake(uri, pa.table(columns))
    return DatasetRef(uri=uri, version=0, key="id", text="body", labels=SIGNALS, split="split")


@dataclasses.dataclass
class Replacement:
    """Four champions on one trunk, and four heads on another, one of which is worse."""

    dataset: DatasetRef
    old: dict[str, ModelRef]
    new: SignalsRef
    next_step: NextStep

    def run(self, key: str = "r" * 64, **config: Any) -> ReplaceTrunkOutputs:
        """Run the step."""
        limits = ReplaceTrunkConfig.model_validate(
            {"prefix": "is_", "max_drop": 0.05, "max_drift": None, "min_recall": None, "resamples": 300}
            | {"max_calibration_error": None, "max_class_drop": 0.3, **config}
        )
        inputs = ReplaceTrunkInputs(dataset=self.dataset, signals=self.new)
        return replace_trunk.run(limits, inputs, self.next_step(key))


@pytest.fixture
def replacement(
    dataset: DatasetRef, tiny_base_model: Path, step_context: StepContext, next_step: NextStep
) -> Replacement:
    old = _heads(tiny_base_model, dataset, step_context, tokens=16)
    for signal, model in old.items():
        verdict = VerdictRef(
            passed=True, name=f"is_{signal}", challenger=model, champion_version=None, reasons=(),
            uri="runs:/r/gate/verdict.json", run_id=step_context.run.run_id,
        )  # fmt: skip
        promotion.promote(verdict, next_step(f"first-{signal}"))
    new = _heads(tiny_base_model, dataset, step_context, tokens=12)
    new["share"] = _mirrored(new["share"], dataset, step_context)
    return Replacement(dataset, old, log_signals(new, next_step("signals")), next_step)


def _heads(base: Path, dataset: DatasetRef, context: StepContext, *, tokens: int) -> dict[str, ModelRef]:
    stem = trunk.run(TrunkConfig(base_model=str(base), max_tokens=tokens), TrunkInputs(), context).trunk
    config = TrainHeadsConfig(epochs=40, learning_rate=2e-2, batch_size=128, prefix="is_")
    found = train_heads.run(config, TrainHeadsInputs(dataset=dataset, trunk=stem), context).signals
    return read_signals(found)


def _mirrored(model: ModelRef, dataset: DatasetRef, context: StepContext) -> ModelRef:
    """A head that says the contrary."""
    folder = context.workdir / "contrary"
    shutil.copytree(fetch_bundle(model, context.cache), folder)
    weights = load_file(folder / "head.safetensors")
    save_file({name: -value for name, value in weights.items()}, folder / "head.safetensors")
    info = BundleInfo.load(folder)
    trunk_model = ModelRef(
        uri=str(model.trunk), run_id=model.run_id, digest=str(info.trunk), format="trunk", role="trunk"
    )
    return log_model(folder, role="head", dataset=dataset, context=context, trunk=trunk_model)


def test_what_does_not_regress_moves_together_and_the_rest_stays(
    replacement: Replacement, settings: Settings, step_context: StepContext
) -> None:
    registry = Registry(step_context.run.client, settings)
    found = replacement.run()
    report = json.loads(_text(found.report.uri))
    by_signal = {one["signal"]: one for one in report["heads"]}
    assert {name: one["outcome"] for name, one in by_signal.items()} == {
        "goal": "moves", "match": "moves", "bank": "moves", "share": "stays"
    }  # fmt: skip
    assert report["passes"] == 2, "each trunk reads the test rows once"
    worse = by_signal["share"]
    assert worse["new"] < worse["old"]
    assert worse["low"] > 0.05
    assert any("is " in why and "refused" in why for why in worse["reasons"])
    assert by_signal["goal"]["rows"] == 60

    now = read_signals(found.signals)
    assert {name: model.uri for name, model in now.items()} == {
        "goal": "models:/is_goal/2", "match": "models:/is_match/2",
        "bank": "models:/is_bank/2", "share": "models:/is_share/1",
    }  # fmt: skip
    assert now["goal"].trunk != now["share"].trunk
    assert [alias_version(registry, f"is_{name}") for name in SIGNALS] == [2, 2, 2, 1]
    (move,) = [joint_ledger.joint_move(settings, 1)]
    assert move is not None
    assert [(row.model, row.action) for row in move.rows] == [
        ("is_bank", "promote"), ("is_goal", "promote"), ("is_match", "promote"), ("is_share", "refuse")
    ]  # fmt: skip
    assert joint_ledger.open_move(settings) is None
    assert all(head(settings, f"is_{name}").settled for name in SIGNALS)
    still_valid = replace_trunk.replace_trunk.still_valid
    assert still_valid is not None
    assert still_valid(found, settings)

    # Once more: what has moved is the champion already, and the other one is refused again.
    rows = len(entries(settings))
    again = replacement.run("s" * 64)
    assert read_signals(again.signals) == now
    assert len(entries(settings)) == rows + 1
    assert entries(settings)[-1].action == "refuse"

    # Back, all that nobody has moved since.
    client = step_context.run.client
    client.set_registered_model_alias("is_match", "champion", "1")  # by hand
    lines: list[str] = []
    back = rollback_together(1, settings, why="slower", who="Ada", say=lines.append)
    assert back.number == 3
    assert sorted(back.moving) == ["is_bank", "is_goal"]
    assert all((row.from_version, row.to_version) == (2, 1) for row in back.rows)
    assert {row.reasons for row in back.rows} == {("slower", "joint move 3, back from joint move 1")}
    assert any("is_match" in line and "stays" in line for line in lines)
    assert [alias_version(registry, f"is_{name}") for name in SIGNALS] == [1, 1, 1, 1]
    with pytest.raises(GateError, match="needs champions that the joint move made"):
        rollback_together(1, settings, why="again", say=lines.append)
    with pytest.raises(GateError, match="needs a joint move that happened"):
        rollback_together(9, settings, why="again", say=lines.append)
    # Back from the way back.
    assert sorted(rollback_together(3, settings, why="it was not", say=lines.append).moving) == [
        "is_bank",
        "is_goal",
    ]
    assert alias_version(registry, "is_goal") == 2


def test_rows_on_which_nothing_can_be_shown_move_nothing(replacement: Replacement, tmp_path: Path) -> None:
    rows = read_arrow(replacement.dataset)
    found = []
    for name, some in (
        ("few", rows.slice(0, 182)),
        ("of-other-classes", rows.set_column(3, "goal", pa.array(["maybe"] * rows.num_rows))),
    ):
        write_deltalake(str(tmp_path / name), some)
        dataset = replacement.dataset.model_copy(update={"uri": str(tmp_path / name)})
        made = dataclasses.replace(replacement, dataset=dataset).run(name[0] * 64, move=False)
        found.append({one["signal"]: one for one in json.loads(_text(made.report.uri))["heads"]})
    assert {one["outcome"] for one in found[0].values()} == {"stays"}
    assert all("too small to judge" in one["reasons"][0] for one in found[0].values())
    assert {name: one["outcome"] for name, one in found[1].items()} == {
        "goal": "stays", "match": "moves", "bank": "moves", "share": "stays"
    }  # fmt: skip


def _text(uri: str) -> str:
    from mlflow.artifacts import load_text

    return str(load_text(uri))
