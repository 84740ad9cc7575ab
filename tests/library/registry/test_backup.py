"""A deployment that is lost comes back: documents, decisions, and the models in use under their numbers."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import save_file

from modelmill.artifacts import DatasetRef, ModelRef, TableRef, VerdictRef
from modelmill.component import StepContext
from modelmill.compression.trunk import make_trunk
from modelmill.errors import ConfigError, ModelmillError
from modelmill.models.base_model import load_base_model
from modelmill.models.bundle import BundleInfo
from modelmill.registry import promotion
from modelmill.registry.backup import read_manifest, restore_backup, write_backup
from modelmill.registry.bundles import log_model
from modelmill.registry.ledger import entries
from modelmill.registry.rollback import rollback
from modelmill.registry.tracking import tracking_client
from modelmill.registry.versions import register, verified_version
from modelmill.rules.lifecycle.registered_rule_sets import log_rule_set, open_rule_set
from modelmill.rules.rule_set import RuleSet
from modelmill.serving.deployments import Deployment, read_deployments, write_deployment
from modelmill.settings import Settings

Propose = Callable[..., ModelRef]
Accepted = Callable[..., VerdictRef]
NextStep = Callable[[str], StepContext]


def documents(folder: Path) -> dict[str, str]:
    return {name: str(folder / name) for name in ("pipelines", "rules", "labelling")}


@pytest.fixture
def places(tmp_path: Path) -> dict[str, str]:
    """Folders of documents with something in them, a version among it."""
    found = documents(tmp_path / "documents")
    for name, place in found.items():
        versions = Path(place, ".versions", "daily")
        versions.mkdir(parents=True)
        Path(place, "daily.yaml").write_text(f"what: {name}, 每日\n")
        (versions / "000001.json").write_text('{"text": "before"}')
        Path(place, ".versions", ".lock").touch()
    return found


@pytest.fixture
def deployment(
    propose: Propose, accepted: Accepted, next_step: NextStep, step_context: StepContext
) -> Settings:
    """Four versions: a champion before, a deleted one, one that nobody uses, and the champion."""
    client = step_context.run.client
    promotion.promote(accepted(propose("first")), step_context)
    register(client, "topics", propose("gone", tweak=0.1))
    client.delete_model_version("topics", "2")
    register(client, "topics", propose("unused", tweak=0.2), tags={"modelmill.why": "tried by hand"})
    promotion.promote(accepted(propose("second", tweak=0.3)), next_step("b" * 64))
    client.create_registered_model("somebody_elses")
    write_deployment(Deployment(model="topics"), "main", step_context.settings)
    return step_context.settings


@pytest.fixture
def head(
    tiny_base_model: Path, step_context: StepContext, topic_dataset: DatasetRef, tmp_path: Path
) -> ModelRef:
    """A head with random weights, on a trunk that is logged."""
    base = load_base_model(str(tiny_base_model), max_tokens=16, dropout=0.0)
    trunk_folder, folder = tmp_path / "trunk", tmp_path / "head"
    width = base.encoder.config.hidden_size
    make_trunk(base.encoder, trunk_folder, tokenizer=base.tokenizer, text="body", max_tokens=16)
    trunk = log_model(trunk_folder, role="trunk", context=step_context)
    folder.mkdir()
    weight = np.random.default_rng(0).normal(size=(2, width)).astype(np.float32)
    save_file({"weight": weight, "bias": np.zeros(2, np.float32)}, folder / "head.safetensors")
    BundleInfo(
        format="head",
        label="signal",
        classes=("no", "yes"),
        text="body",
        max_tokens=16,
        parameters=2 * width + 2,
        features=width,
        head="linear",
        trunk=trunk.digest,
    ).save(folder)
    return log_model(folder, role="head", context=step_context, dataset=topic_dataset, trunk=trunk)


def elsewhere(folder: Path, database: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Return the settings of a deployment that has nothing yet."""
    folder.mkdir()
    shutil.copy(database, folder / "mlflow.db")
    monkeypatch.setenv("MODELMILL_HOME", str(folder / "home"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
    return Settings.from_environment()


def lose(settings: Settings, places: Mapping[str, str], tmp_path: Path) -> None:
    for place in (*places.values(), settings.home, tmp_path / "artifacts", tmp_path / "cache"):
        shutil.rmtree(place)
    (tmp_path / "mlflow.db").unlink()


def test_what_was_lost_comes_back(
    deployment: Settings,
    places: dict[str, str],
    tmp_path: Path,
    mlflow_database: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said: list[str] = []
    write_backup(str(tmp_path / "backup"), places=places, settings=deployment, say=said.append)
    assert "topics: 3 versions, files of 2" in said
    assert "somebody_elses: not in the backup, because modelmill has not made it" in said
    rows = entries(deployment)
    lose(deployment, places, tmp_path)

    there = documents(tmp_path / "new" / "documents")
    settings = elsewhere(tmp_path / "new", mlflow_database, monkeypatch)
    for _ in range(2):  # the second time nothing is left to do
        restore_backup(str(tmp_path / "backup"), places=there, settings=settings, say=said.append)

    assert Path(there["rules"], "daily.yaml").read_text() == "what: rules, 每日\n"
    assert Path(there["labelling"], ".versions", "daily", "000001.json").exists()
    assert not Path(there["pipelines"], ".versions", ".lock").exists()
    assert entries(settings) == rows
    assert read_deployments("main", settings) == {"topics": Deployment(model="topics")}

    client = tracking_client(settings.tracking_uri)
    versions = {int(one.version): one for one in client.search_model_versions("name = 'topics'")}
    assert sorted(versions) == [1, 3, 4]
    assert versions[3].tags["modelmill.why"] == "tried by hand"
    assert promotion.champion_version("topics", settings) == 4
    assert verified_version(client, "topics", 4).digest == rows[-1].digest
    answers = mlflow.pyfunc.load_model("models:/topics@champion").predict(pd.DataFrame({"body": ["goal"]}))
    assert answers["prediction"].tolist() == ["sport"]
    assert versions[3].description == "Its files were not in the backup. "
    with pytest.raises(ModelmillError, match="MLflow must have the model's files"):
        verified_version(client, "topics", 3)  # its files were in no backup
    rollback("topics", settings, why="the night was bad")
    assert promotion.champion_version("topics", settings) == 1
    assert verified_version(client, "topics", 1).digest == rows[0].digest


class Died(BaseException):
    """Stands for SIGKILL: nothing of ours may handle it."""


def registry_of(settings: Settings) -> Any:
    """Return what MLflow has: versions, alias, models by status, runs by status."""
    client = tracking_client(settings.tracking_uri)
    versions = {
        int(one.version): (one.description, one.tags.get("modelmill.why"))
        for one in client.search_model_versions("name = 'topics'")
    }
    (experiment,) = client.search_experiments(filter_string="name = 'modelmill_restored'")
    models = client.search_logged_models([experiment.experiment_id])
    runs = client.search_runs([experiment.experiment_id])
    return (
        versions,
        client.get_registered_model("topics").aliases,
        sorted(str(one.status) for one in models),
        {one.info.status for one in runs} - {"KILLED"},
    )


def test_a_restore_that_was_killed_is_done_again(
    deployment: Settings, tmp_path: Path, mlflow_database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It dies before or after writes to MLflow, a third of all; the next try ends as if it had not."""
    client = tracking_client(deployment.tracking_uri)
    client.delete_model_version("topics", "3")  # two numbers in a row that have to be used up
    client.update_model_version("topics", "1", "the first night")
    write_backup(str(tmp_path / "backup"), places={}, settings=deployment)
    rows = entries(deployment)
    counted, dies_at = 0, None
    writes = re.compile("create_|delete_|set_|update_|finalize_")

    def counting(call: Callable[..., Any]) -> Callable[..., Any]:
        def made(*args: Any, **named: Any) -> Any:
            nonlocal counted
            counted += 2
            if dies_at == counted - 2:
                raise Died
            result = call(*args, **named)
            if dies_at == counted - 1:
                raise Died
            return result

        return made

    for name in [name for name in dir(type(client)) if writes.match(name)]:
        monkeypatch.setattr(type(client), name, counting(getattr(type(client), name)))

    def restored(at: int | None) -> Any:
        nonlocal counted, dies_at
        settings = elsewhere(tmp_path / f"new-{at}", mlflow_database, monkeypatch)
        for dies_at in (at, None) if at is not None else (None,):
            counted = 0
            with contextlib.nullcontext() if dies_at is None else pytest.raises(Died):
                restore_backup(str(tmp_path / "backup"), places={}, settings=settings, say=lambda _: None)
        assert entries(settings) == rows
        assert promotion.champion_version("topics", settings) == 4
        assert verified_version(tracking_client(settings.tracking_uri), "topics", 1).digest == rows[0].digest
        return registry_of(settings)

    whole = restored(None)
    assert list(whole[0]) == [4, 1]
    points = counted
    assert points > 20
    assert [at for at in range(0, points, 3) if restored(at) != whole] == []


def test_a_head_comes_back_with_its_trunk(
    head: ModelRef,
    step_context: StepContext,
    tmp_path: Path,
    mlflow_database: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client = step_context.run.client
    version = register(client, "signal", head)
    client.set_registered_model_alias("signal", "champion", version.version)
    before = mlflow.pyfunc.load_model("models:/signal@champion").predict(pd.DataFrame({"body": ["goal"]}))
    manifest = write_backup(str(tmp_path / "backup"), places={}, settings=step_context.settings)
    assert len({file.path.split("/")[1] for file in manifest.files if file.path.startswith("models/")}) == 2
    settings = elsewhere(tmp_path / "new", mlflow_database, monkeypatch)
    shutil.rmtree(tmp_path / "artifacts")
    restore_backup(str(tmp_path / "backup"), places={}, settings=settings)
    again = mlflow.pyfunc.load_model("models:/signal@champion").predict(pd.DataFrame({"body": ["goal"]}))
    pd.testing.assert_frame_equal(again, before)


@pytest.mark.parametrize("by", ["a registered rule set", "a file"])
def test_a_version_that_rules_name_comes_back_with_its_files(
    by: str,
    deployment: Settings,
    places: dict[str, str],
    next_step: NextStep,
    tmp_path: Path,
    mlflow_database: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    signal = {"kind": "model", "column": "text", "model": "models:/topics/3", "label": "sport"}
    content = {
        "rule_set": "desks",
        "key": "id",
        "signals": {"sport": signal},
        "rules": [{"name": "sport", "when": "sport > 0.5", "then": "sport"}],
        "default": "trade",
    }
    if by == "a file":
        Path(places["rules"], "desks.yaml").write_text(json.dumps(content))
    else:
        context = next_step("c" * 64)
        client = context.run.client
        rules = RuleSet.model_validate(content)
        version = register(client, "desks", log_rule_set(rules, TableRef(uri="/none", version=0), context))
        client.set_registered_model_alias("desks", "champion", str(version.version))
    write_backup(str(tmp_path / "backup"), places=places, settings=deployment)
    lose(deployment, places, tmp_path)
    settings = elsewhere(tmp_path / "new", mlflow_database, monkeypatch)
    there = documents(tmp_path / "new" / "documents")
    restore_backup(str(tmp_path / "backup"), places=there, settings=settings)
    assert verified_version(tracking_client(settings.tracking_uri), "topics", 3)
    assert open_rule_set("models:/desks@champion", settings).models if by != "a file" else True


def test_a_restore_overwrites_nothing(deployment: Settings, places: dict[str, str], tmp_path: Path) -> None:
    said: list[str] = []
    write_backup(str(tmp_path / "backup"), places=places, settings=deployment, say=said.append)
    assert not any("by the ledger" in line for line in said)
    tracking_client(deployment.tracking_uri).set_registered_model_alias("topics", "champion", "1")
    write_backup(str(tmp_path / "moved"), places={}, settings=deployment, say=said.append)
    assert "topics: champion is 4 by the ledger, 1 in this MLflow" in said
    tracking_client(deployment.tracking_uri).set_registered_model_alias("topics", "champion", "4")
    with pytest.raises(ConfigError, match="a backup is written into an empty folder"):
        write_backup(str(tmp_path / "backup"), places=places, settings=deployment)
    Path(places["rules"], "daily.yaml").write_text("what: newer\n")
    with pytest.raises(ConfigError, match=r"where nothing else is; got .*rules/daily\.yaml"):
        restore_backup(str(tmp_path / "backup"), places=places, settings=deployment)
    assert Path(places["rules"], "daily.yaml").read_text() == "what: newer\n"
    del places["rules"]
    with pytest.raises(ConfigError, match="the backup's rules go"):
        restore_backup(str(tmp_path / "backup"), places=places, settings=deployment)


def test_another_model_under_a_number_is_refused(
    deployment: Settings, propose: Propose, step_context: StepContext, tmp_path: Path
) -> None:
    write_backup(str(tmp_path / "backup"), places={}, settings=deployment)
    register(step_context.run.client, "topics", propose("later", tweak=0.4))
    empty = replace(deployment, ledger=str(tmp_path / "other"), deployments=str(tmp_path / "d"))
    with pytest.raises(ConfigError, match="topics version 5 is another model than in the backup"):
        restore_backup(str(tmp_path / "backup"), places={}, settings=empty)
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("damage", ["changed", "lost", "unfinished"])
def test_a_damaged_backup_is_refused(
    damage: str, places: dict[str, str], settings: Settings, tmp_path: Path
) -> None:
    folder = tmp_path / "backup"
    write_backup(str(folder), places=places, settings=settings)
    assert len(read_manifest(str(folder)).files) == 7
    file = folder / ("manifest.json" if damage == "unfinished" else "rules/daily.yaml")
    if damage == "changed":
        file.write_text("what: else\n")
    else:
        file.unlink()
    said = "a backup has a manifest" if damage == "unfinished" else "1 missing or changed, such as rules/"
    with pytest.raises(ConfigError, match=said):
        read_manifest(str(folder))


@pytest.mark.parametrize("named", ["{outside}", "../outside", "m-{zeros}/../../outside", "nobody"])
def test_a_registry_that_names_folders_elsewhere_is_refused_and_they_stay(
    named: str, settings: Settings, tmp_path: Path
) -> None:
    outside, backup = tmp_path / "outside", tmp_path / "backup"
    outside.mkdir()
    (outside / "MLmodel").write_text("flavors: {}\n")
    write_backup(str(backup), places={}, settings=settings)
    model_id = named.format(outside=outside, zeros="0" * 32)
    model = {"model_id": model_id, "name": "m", "model_type": "", "tags": {}, "params": {}, "needs": []}
    version = {"version": 1, "description": "", "tags": {}, "source": "", "model_id": model_id}
    if named == "nobody":
        version["model_id"] = f"m-{'0' * 32}"
    name = {"name": "topics", "description": "", "tags": {}, "aliases": {}, "versions": [version]}
    models = [] if named == "nobody" else [model]
    content = json.dumps({"names": [name], "models": models}).encode()
    (backup / "registry.json").write_bytes(content)
    manifest = json.loads((backup / "manifest.json").read_text())
    (file,) = (file for file in manifest["files"] if file["path"] == "registry.json")
    file |= {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (backup / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ConfigError, match=r"as modelmill backup has written|that its registry names"):
        restore_backup(str(backup), places={}, settings=settings)
    assert [path.name for path in outside.iterdir()] == ["MLmodel"]
    assert (outside / "MLmodel").read_text() == "flavors: {}\n"
