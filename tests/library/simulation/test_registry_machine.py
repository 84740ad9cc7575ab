"""Champions against a list of moves: the ledger, the alias and a pure model say the same after each act."""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
from pathlib import Path
from typing import Any

import pytest
from benchmarks.crash_points import Died, crash_points
from benchmarks.simulated_nights import MODEL, deployment
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from mlflow import MlflowClient
from tests.library.simulation.examples import tried

from modelmill.artifacts import DatasetRef, ModelRef, VerdictRef
from modelmill.component import StepContext
from modelmill.errors import GateError
from modelmill.models.bundle import BundleInfo
from modelmill.registry import champion, guard, ledger
from modelmill.registry.bundles import log_model
from modelmill.registry.promotion import StaleVerdictError, promote
from modelmill.registry.rollback import rollback
from modelmill.registry.tracking import experiment_id, open_run, tracking_client
from modelmill.registry.versions import CHAMPION
from modelmill.settings import Settings

MODELS = 3
DEATHS = st.none() | st.integers(0, 24)
EFFECTS = ("mlflow", "delta")


class Champions(RuleBasedStateMachine):
    """Steps and people that move a champion, some of which die, on a virtual clock."""

    database: Path
    """MLflow's, in which the models are logged."""
    models: list[ModelRef]

    def __init__(self) -> None:
        super().__init__()
        self.held = contextlib.ExitStack()
        folder = Path(self.held.enter_context(tempfile.TemporaryDirectory()))
        self.points = self.held.enter_context(crash_points())
        self.world = self.held.enter_context(deployment(self.database, self.points, 0))
        self.registry = champion.Registry(self.world.client, self.world.settings, _quiet)
        self.folder = folder
        self.moves: list[tuple[str, int | None]] = []
        """Action and champion after it, of each row of the ledger."""
        self.verdicts: list[VerdictRef] = []
        self.keys = 0

    def teardown(self) -> None:
        self.held.close()

    @property
    def champion(self) -> int | None:
        return self.moves[-1][1] if self.moves else None

    def _step(self) -> StepContext:
        self.keys += 1
        return _context(self.keys, self.world.client, self.world.settings, self.folder)

    def _verdict(self, number: int, *, passed: bool) -> VerdictRef:
        return VerdictRef(
            passed=passed,
            name=MODEL,
            challenger=self.models[number],
            champion_version=self.champion,
            reasons=() if passed else ("worse",),
            uri="runs:/r/gate/verdict.json",
            run_id="r",
        )

    @rule(number=st.integers(0, MODELS - 1), at=DEATHS, passed=st.sampled_from([True, True, False]))
    def a_step_promotes_and_is_tried_again(self, number: int, at: int | None, passed: bool) -> None:
        verdict, step = self._verdict(number, passed=passed), self._step()
        self.verdicts.append(verdict)
        # Refused, and there is no champion: that is an error.
        with contextlib.suppress(Died, GateError), self.points.life(at, kinds=EFFECTS):
            promote(verdict, step)
        if not passed:
            with contextlib.suppress(GateError):
                promote(verdict, step)
            self.moves.append(("refuse", self.champion))
            return
        before = self._digest(self.champion)
        made = int(promote(verdict, step).uri.rsplit("/", 1)[1])
        if before == verdict.challenger.digest:  # it was in use already
            assert made == self.champion
            return
        assert made > (self.champion or 0)
        self.moves.append(("promote", made))

    @precondition(lambda self: self.verdicts)
    @rule(data=st.data())
    def an_old_verdict_promotes_nothing(self, data: st.DataObject) -> None:
        verdict = data.draw(st.sampled_from(self.verdicts))
        stale = verdict.champion_version != self.champion
        if not verdict.passed or not stale or self._digest(self.champion) == verdict.challenger.digest:
            return
        try:
            promote(verdict, self._step())
        except StaleVerdictError:
            return
        raise AssertionError("a verdict about another champion must promote nothing")

    @rule(at=DEATHS, data=st.data())
    def a_person_rolls_back(self, at: int | None, data: st.DataObject) -> None:
        others = sorted({to for _, to in self.moves if to not in (None, self.champion)})
        if not others:
            return
        to, key = data.draw(st.sampled_from(others)), f"rollback-{len(self.moves)}-{self.keys}"

        def work() -> Any:
            return rollback(MODEL, self.world.settings, why="why not", to=to, step_key=key, say=_quiet)

        with contextlib.suppress(Died), self.points.life(at, kinds=EFFECTS):
            work()
        if data.draw(st.booleans()):
            assert work().to_version == to
            self.moves.append(("rollback", to))
        else:  # nobody tries again: the guard finishes what had begun
            self.world.clock.sleep(100)
            guard.inspect(self.registry, verify_files=False)
            if ledger.find(self.world.settings, MODEL, key) is not None:
                self.moves.append(("rollback", to))

    @precondition(lambda self: self.moves)
    @rule(data=st.data(), revert=st.booleans(), at=DEATHS)
    def the_alias_is_moved_by_hand_and_found(self, data: st.DataObject, revert: bool, at: int | None) -> None:
        versions = sorted({to for _, to in self.moves if to is not None})
        if not versions:
            return
        to = data.draw(st.sampled_from(versions))
        self.world.client.set_registered_model_alias(MODEL, CHAMPION, str(to))
        moved = to != self.champion
        if moved:
            self.moves.append(("hand_move", to))
        how = "revert" if revert else "report"

        def look() -> None:
            guard.inspect(self.registry, on_hand_move=how, verify_files=False)  # type: ignore[arg-type]

        with contextlib.suppress(Died), self.points.life(at, kinds=EFFECTS):
            look()
        self.world.clock.sleep(100)
        look()
        placed = [move for move in self.moves if move[0] != "refuse"]
        if revert and placed[-1][0] == "hand_move":
            back = [version for action, version in placed if action != "hand_move" and version is not None]
            if back:
                self.moves.append(("revert", back[-1]))

    @rule(seconds=st.sampled_from([0.5, 20.0, 40.0]))
    def time_passes(self, seconds: float) -> None:
        self.world.clock.sleep(seconds)

    @invariant()
    def ledger_alias_and_list_agree(self) -> None:
        rows = ledger.entries(self.world.settings, model=MODEL)
        assert [(row.action, row.to_version) for row in rows] == self.moves
        assert champion.alias_version(self.registry, MODEL) == self.champion
        assert ledger.head(self.world.settings, MODEL).settled or not rows

    def _digest(self, version: int | None) -> str:
        if version is None:
            return ""
        found = self.world.client.get_model_version(MODEL, str(version))
        return str(found.tags["modelmill.digest"])


@pytest.fixture(autouse=True)
def database(settings: Settings, tmp_path: Path) -> None:
    """Log the models, and give the machine the database: hypothesis makes it without fixtures."""
    context = _context(0, tracking_client(settings.tracking_uri), settings, tmp_path)
    Champions.models = [_model(tmp_path, number, context) for number in range(MODELS)]
    Champions.database = Path(settings.tracking_uri.removeprefix("sqlite:///"))


def _context(number: int, client: MlflowClient, settings: Settings, folder: Path) -> StepContext:
    key = hashlib.sha256(str(number).encode()).hexdigest()
    run = open_run(client, experiment_id(client, "machine", artifact_root=folder), key, name="s", tags={})
    return StepContext(
        pipeline="machine",
        step="s",
        step_key=key,
        run=run,
        workdir=folder,
        cache=folder / "cache",
        settings=settings,
        progress=lambda done, total, **figures: None,
        log=_quiet,
    )


def _quiet(_line: str) -> None:
    pass


def _model(folder: Path, number: int, context: StepContext) -> ModelRef:
    bundle = folder / f"bundle-{number}"
    bundle.mkdir()
    (bundle / "model.onnx").write_text(str(number))
    (bundle / "tokenizer.json").write_text("{}")
    BundleInfo(
        format="onnx", label="t", classes=("a", "b"), target="class", text="body", max_tokens=8, parameters=1
    ).save(bundle)
    dataset = DatasetRef(
        uri=str(folder / "rows"), version=0, key="id", text="body", labels=("t",), split="split"
    )
    return log_model(bundle, role="exported", dataset=dataset, context=context)


TestChampions = tried(Champions, few=3, steps=10)
