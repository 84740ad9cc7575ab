"""The registered models of MLflow in files, and back into another MLflow: versions keep their numbers."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import StringConstraints

from modelmill.errors import ConfigError, TransientError
from modelmill.options import Record
from modelmill.registry.bundles import TAG_DIGEST, TAG_PACKAGE, upload
from modelmill.registry.packaging import APART, BUNDLE_PATH, name_model, package_digest
from modelmill.registry.retention import named_in
from modelmill.registry.signing import MODEL_SIGNATURE, sign
from modelmill.registry.tracking import experiment_id
from modelmill.registry.versions import TAG_FORMAT, all_pages, patiently

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

EXPERIMENT = "modelmill_restored"
"""Experiment of the models that a restore has logged."""
TAG_RESTORED = "modelmill.restored"
"""URI that a restored model had in the MLflow that was lost."""
TAG_NUMBER = "modelmill.restored_number"
"""Number that a restored version had there. One with another number only uses up its own, and is deleted."""
_RUN_NAME = "restore"

_ID = re.compile(r"\bm-[0-9a-f]{32}\b")
_DESCRIPTION = "MLmodel"


ModelId = Annotated[str, StringConstraints(pattern=r"^m-[0-9a-f]{32}$")]
"""MLflow's id of a logged model. It names a folder: another text could name one outside the backup."""


class StoredModel(Record):
    """A logged model whose files are in the backup, in a folder named after its id."""

    model_id: ModelId
    name: str
    model_type: str
    tags: dict[str, str]
    params: dict[str, str]
    needs: tuple[ModelId, ...]
    """Ids of other models that its files name, such as the trunk of a head: they are stored too."""


class StoredVersion(Record):
    """A version of a registered model."""

    version: int
    description: str
    tags: dict[str, str]
    source: str
    model_id: ModelId | Literal[""]
    """Of the logged model; empty if its files are not in the backup."""


class StoredName(Record):
    """A registered model with its versions and aliases."""

    name: str
    description: str
    tags: dict[str, str]
    aliases: dict[str, int]
    versions: tuple[StoredVersion, ...]


class StoredRegistry(Record):
    """All registered models that modelmill has made."""

    names: tuple[StoredName, ...]
    models: tuple[StoredModel, ...]

    def model(self, model_id: str) -> StoredModel:
        """Return a stored model by its id; ConfigError if the backup has none."""
        found = next((model for model in self.models if model.model_id == model_id), None)
        if found is None:
            raise ConfigError(
                "a backup has the models that its registry names",
                got=model_id,
                remedy="take another copy of the backup",
            )
        return found


def save_registry(
    client: MlflowClient,
    folder: Path,
    *,
    kept: Callable[[str], set[int]],
    every: bool,
    say: Callable[[str], None],
) -> StoredRegistry:
    """Write the files of models into a folder, and return what the registry says.

    :param client: MLflow's client.
    :param folder: gets a folder for each model.
    :param kept: returns, for a registered model, versions whose files are kept besides those with an alias,
        and those that a rule set names whose files are kept.
    :param every: keep the files of all versions.
    :param say: gets a line for each registered model.
    :return: the registry.
    :raises TransientError: if MLflow does not hand out a file.
    """
    names: list[StoredName] = []
    models: dict[str, StoredModel] = {}
    registered = []
    for found in all_pages(client.search_registered_models):
        versions = _versions(client, found.name)
        if not any(TAG_DIGEST in version.tags for version in versions):
            say(f"{found.name}: not in the backup, because modelmill has not made it")
            continue
        aliases = {alias: int(version) for alias, version in found.aliases.items()}
        wanted = {
            int(version.version)
            for version in versions
            if every or int(version.version) in {*aliases.values(), *kept(found.name)}
        }
        registered.append((found, versions, aliases, wanted))
    asked = set[str]()
    for _, versions, _, wanted in registered:
        asked |= _asked_by_rule_sets(
            [one for one in versions if int(one.version) in wanted], client, folder, models
        )
    for found, versions, aliases, wanted in registered:
        wanted |= {int(one.version) for one in versions if f"{found.name}/{one.version}" in asked}
        stored = []
        for version in versions:
            model_id = _model_id(version)
            if not (model_id and int(version.version) in wanted):
                model_id = ""
            else:
                _save_model(client, model_id, folder, models)
            stored.append(
                StoredVersion(
                    version=int(version.version),
                    description=version.description or "",
                    tags=dict(version.tags),
                    source=version.source or "",
                    model_id=model_id,
                )
            )
        names.append(
            StoredName(
                name=found.name,
                description=found.description or "",
                tags=dict(found.tags),
                aliases=aliases,
                versions=tuple(stored),
            )
        )
        say(f"{found.name}: {len(stored)} versions, files of {sum(bool(one.model_id) for one in stored)}")
    return StoredRegistry(names=tuple(names), models=tuple(models.values()))


def _asked_by_rule_sets(
    versions: Sequence[ModelVersion], client: MlflowClient, folder: Path, models: dict[str, StoredModel]
) -> set[str]:
    """Store the rule sets among some versions, and return the versions, ``NAME/VERSION``, that they name."""
    asked = set[str]()
    for version in versions:
        model_id = _model_id(version)
        if model_id and version.tags.get(TAG_FORMAT) == "rules":
            _save_model(client, model_id, folder, models)
            bundle = folder / model_id / BUNDLE_PATH
            asked |= named_in(file.read_text() for file in bundle.rglob("*") if file.is_file())
    return asked


def _save_model(client: MlflowClient, model_id: str, folder: Path, models: dict[str, StoredModel]) -> None:
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    if model_id in models:
        return
    place = folder / model_id
    try:
        logged = client.get_logged_model(model_id)
        place.mkdir(parents=True, exist_ok=True)
        download_artifacts(artifact_uri=f"models:/{model_id}", dst_path=str(place))
    except (MlflowException, OSError) as error:
        raise TransientError(
            f"MLflow must hand out the model ({error})",
            got=f"models:/{model_id}",
            remedy="check that it still exists and that the MLflow server answers",
        ) from error
    for name in APART:
        (place / name).unlink(missing_ok=True)
    needs = sorted(set(_ID.findall((place / _DESCRIPTION).read_text())) - {model_id})
    for need in needs:
        _save_model(client, need, folder, models)
    models[model_id] = StoredModel(
        model_id=model_id,
        name=logged.name,
        model_type=logged.model_type or "",
        tags=dict(logged.tags),
        params=dict(logged.params),
        needs=tuple(needs),
    )


def _model_id(version: ModelVersion) -> str:
    found = _ID.search(version.source or "")
    return str(getattr(version, "model_id", None) or (found.group() if found else ""))


def conflicts(client: MlflowClient, stored: StoredRegistry) -> list[str]:
    """Return what of a registry contradicts a backup: other files under a number, other aliases."""
    wrong = []
    for name in stored.names:
        there = {int(version.version): version for version in _versions(client, name.name)}
        kept = {version.version: version for version in name.versions}
        for number, version in there.items():
            if _is_passing(version):
                continue
            if number not in kept or kept[number].tags.get(TAG_DIGEST) != version.tags.get(TAG_DIGEST):
                wrong.append(f"{name.name} version {number} is another model than in the backup")
        if there:
            aliases = client.get_registered_model(name.name).aliases
            for alias, number in name.aliases.items():
                if int(aliases.get(alias, number)) != number:
                    wrong.append(f"{name.name}@{alias} is version {aliases[alias]}, in the backup {number}")
    return wrong


@dataclass
class RegistryRestore:
    """Puts a stored registry into MLflow, where :func:`conflicts` has found none.

    What an earlier try has put there is taken as it is.

    :param client: MLflow's client.
    :param stored: the registry.
    :param folder: a folder for each model, which is changed.
    :param artifact_root: where artifacts go if the tracking store is a local database.
    """

    client: MlflowClient
    stored: StoredRegistry
    folder: Path
    artifact_root: Path | None = None
    new_ids: dict[str, str] = field(default_factory=dict)
    """Id of each restored model by the id that it had."""

    def run(self, say: Callable[[str], None]) -> None:
        """Restore all registered models.

        :param say: gets a line for each.
        :raises TransientError: if MLflow gives a version another number: somebody else registers.
        """
        experiment = experiment_id(self.client, EXPERIMENT, artifact_root=self.artifact_root)
        self._take_over(experiment)
        run = self.client.create_run(experiment, run_name=_RUN_NAME).info.run_id
        for name in self.stored.names:
            self._restore_name(name, experiment, run)
            say(
                f"{name.name}: {len(name.versions)} versions, {', '.join(sorted(name.aliases)) or 'no alias'}"
            )
        self.client.set_terminated(run)

    def _restore_name(self, name: StoredName, experiment: str, run: str) -> None:
        if not patiently(lambda: self.client.search_registered_models(filter_string=f"name = '{name.name}'")):
            self.client.create_registered_model(name.name, tags=name.tags, description=name.description)
        there = set[int]()
        for found in _versions(self.client, name.name):
            if _is_passing(found):
                self.client.delete_model_version(name.name, str(found.version))
            else:
                there.add(int(found.version))
        for version in sorted(name.versions, key=lambda one: one.version):
            if version.version not in there:
                self._restore_version(name.name, version, experiment, run)
        for alias, number in name.aliases.items():
            self.client.set_registered_model_alias(name.name, alias, str(number))

    def _take_over(self, experiment: str) -> None:
        """Take the models that an earlier try has logged; what it had begun when it was killed is ended."""
        for logged in all_pages(self.client.search_logged_models, experiment_ids=[experiment]):
            if not logged.tags.get(TAG_RESTORED):
                continue
            if logged.status == "READY":
                self.new_ids[logged.tags[TAG_RESTORED]] = logged.model_id
            else:
                self.client.delete_logged_model(logged.model_id)
        begun = f"attributes.status = 'RUNNING' and attributes.run_name = '{_RUN_NAME}'"
        for run in all_pages(self.client.search_runs, experiment_ids=[experiment], filter_string=begun):
            self.client.set_terminated(run.info.run_id, status="KILLED")

    def _restore_version(self, name: str, version: StoredVersion, experiment: str, run: str) -> None:
        tags = {
            **self._renamed(version.tags),
            TAG_RESTORED: version.source,
            TAG_NUMBER: str(version.version),
        }
        source, model_id, description = f"runs:/{run}/not_in_the_backup", None, version.description
        if version.model_id:
            model_id = self._restore_model(self.stored.model(version.model_id), experiment, run)
            tags[TAG_PACKAGE] = self.client.get_logged_model(model_id).tags[TAG_PACKAGE]
            source = f"models:/{model_id}"
        else:
            description = "Its files were not in the backup. " + description
        made = 0
        while made < version.version:  # MLflow gives out the next number, also in place of deleted versions
            made = int(
                self.client.create_model_version(
                    name, source, run_id=run, tags=tags, model_id=model_id, description=description
                ).version
            )
            if made != version.version:
                self.client.delete_model_version(name, str(made))
        if made != version.version:
            raise TransientError(
                f"version {version.version} of {name} must get its number back",
                got=made,
                remedy="restore when nobody else registers models, into a registry that has not given it out",
            )

    def _restore_model(self, model: StoredModel, experiment: str, run: str) -> str:
        if model.model_id in self.new_ids:
            return self.new_ids[model.model_id]
        for need in model.needs:
            self._restore_model(self.stored.model(need), experiment, run)
        place = self.folder / model.model_id
        description = place / _DESCRIPTION
        description.write_text(self._renamed_text(description.read_text()))
        tags = {**self._renamed(model.tags), TAG_RESTORED: model.model_id}
        tags[TAG_PACKAGE] = package_digest(place)
        logged = self.client.create_logged_model(
            experiment_id=experiment,
            name=model.name,
            source_run_id=run,
            tags=tags,
            params=model.params,
            model_type=model.model_type or None,
        )
        name_model(place, logged.model_id)
        sign(place, place / MODEL_SIGNATURE, ignored=APART)
        upload(place, logged.artifact_location, self.client)
        self.client.finalize_logged_model(logged.model_id, "READY")
        self.new_ids[model.model_id] = logged.model_id
        return str(logged.model_id)

    def _renamed(self, tags: dict[str, str]) -> dict[str, str]:
        return {key: self._renamed_text(value) for key, value in tags.items()}

    def _renamed_text(self, text: str) -> str:
        return _ID.sub(lambda found: self.new_ids.get(found.group(), found.group()), text)


def _is_passing(version: ModelVersion) -> bool:
    """Return whether a version only uses up a number: a restore that was killed had no time to delete it."""
    return str(version.tags.get(TAG_NUMBER, version.version)) != str(version.version)


def _versions(client: MlflowClient, name: str) -> list[ModelVersion]:
    found = all_pages(client.search_model_versions, filter_string=f"name = '{name}'")
    return sorted(found, key=lambda version: int(version.version))
