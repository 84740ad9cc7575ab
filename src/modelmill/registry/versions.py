"""Versions of registered models in MLflow: what they are made from, their lineage, their files."""

from __future__ import annotations

import functools
import re
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from modelmill.artifacts import MODEL_NAME_PATTERN, ModelRef
from modelmill.errors import GateError, ModelError
from modelmill.registry.bundles import (
    TAG_ATTEMPT,
    TAG_DATASET,
    TAG_DIGEST,
    TAG_PARENT,
    TAG_RECIPE,
    TAG_ROLE,
    TAG_TRUNK,
    fetch_bundle,
    logged_model,
    model_format,
)
from modelmill.registry.mlflow_calls import made_once
from modelmill.system.scratch import scratch_folder

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

CHAMPION = "champion"
"""Alias of the version in use."""
TAG_FORMAT = "modelmill.format"
TAG_VERDICT = "modelmill.verdict"

_LINEAGE: Mapping[str, str] = {
    TAG_DIGEST: "digest of its files",
    TAG_DATASET: "dataset it was trained or checked on",
    TAG_RECIPE: "recipe it was made by",
    TAG_ROLE: "role, such as exported",
}
MISSING = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
"""Error codes by which MLflow says that it has no such thing."""
FORBIDDEN = "PERMISSION_DENIED"
_RETRIED = ("TEMPORARILY_UNAVAILABLE", "INTERNAL_ERROR", "RESOURCE_ALREADY_EXISTS")
_BUSY = ("locked", "IntegrityError", "UniqueViolation")
"""What databases say of a writer at work, and of a row that another one has just inserted: a new alias."""
_MOST_VERSIONS = 2**31 - 1
"""MLflow's column has 32 bits: asked for more, a database fails as if it were out of order."""
_TRIES = 6

Found = TypeVar("Found")


def checked_name(name: str) -> str:
    """Return a registered model's name; GateError if it has other letters, or is too long."""
    if not re.match(MODEL_NAME_PATTERN, name) or name.endswith("\n"):
        raise GateError(
            "a registered model's name is a letter and at most 62 letters, digits, _ . or - after it",
            got=name,
            remedy="choose another name in the gate's configuration",
        )
    return name


def patiently(call: Callable[[], Found]) -> Found:
    """Call MLflow, again if a database that several processes share was busy, or somebody else was faster.

    :param call: what to do; doing it twice must do no harm.
    :return: what it returns.
    """
    from mlflow.exceptions import MlflowException

    for attempt in range(_TRIES):
        try:
            return call()
        except MlflowException as error:
            busy = error.error_code in _RETRIED or any(words in str(error) for words in _BUSY)
            if not busy or attempt == _TRIES - 1:
                raise
        time.sleep(0.05 * 2**attempt)
    raise AssertionError("unreachable")


def champion_of(client: MlflowClient, name: str) -> ModelVersion | None:
    """Return the version that the alias ``champion`` points at.

    :param client: MLflow's client.
    :param name: registered model.
    :return: the version; None if there is no such model or alias.
    """
    return _existing(client, name, lambda: client.get_model_version_by_alias(name, CHAMPION))


def version_numbered(client: MlflowClient, name: str, version: int) -> ModelVersion | None:
    """Return a version.

    :param client: MLflow's client.
    :param name: registered model.
    :param version: its number.
    :return: the version; None if there is none.
    """
    if not 0 < version <= _MOST_VERSIONS:
        return None
    return _existing(client, name, lambda: client.get_model_version(name, str(version)))


def _existing(client: MlflowClient, name: str, call: Callable[[], ModelVersion]) -> ModelVersion | None:
    from mlflow.exceptions import MlflowException

    try:
        return patiently(call)
    except MlflowException as error:
        if error.error_code in MISSING or (error.error_code == FORBIDDEN and _is_missing(client, name)):
            return None
        raise


def _is_missing(client: MlflowClient, name: str) -> bool:
    """Return whether there is no such model: MLflow with users forbids to ask for versions of one."""
    from mlflow.exceptions import MlflowException

    try:
        patiently(lambda: client.get_registered_model(name))
    except MlflowException as error:
        return bool(error.error_code in MISSING)
    return False


def rule_set_champions(client: MlflowClient) -> list[str]:
    """Return the champions that are rule sets, ``models:/NAME@champion``: two requests for a thousand."""
    asked = f"tags.`{TAG_FORMAT}` = 'rules'"
    tagged = {
        (one.name, str(one.version)) for one in all_pages(client.search_model_versions, filter_string=asked)
    }
    models = all_pages(client.search_registered_models)
    names = sorted(one.name for one in models if (one.name, str(one.aliases.get(CHAMPION))) in tagged)
    return [f"models:/{name}@{CHAMPION}" for name in names]


def champions_of(client: MlflowClient, names: Collection[str]) -> dict[str, int]:
    """Return the versions with the alias ``champion``, by name: one request for a thousand models."""
    wanted = set(names)
    return {
        one.name: int(one.aliases[CHAMPION])
        for one in all_pages(client.search_registered_models)
        if one.name in wanted and CHAMPION in one.aliases
    }


def all_pages(search: Callable[..., Any], **how: Any) -> Iterator[Any]:
    """Yield what a search of MLflow's client finds, page after page."""
    token: str | None = None
    while True:
        page = patiently(functools.partial(search, max_results=1000, page_token=token, **how))
        yield from page
        token = page.token
        if not token:
            return


def newest_version(client: MlflowClient, name: str) -> ModelRef | None:
    """Return the newest version of a registered model, whatever its aliases say.

    :param client: MLflow's client.
    :param name: registered model.
    :return: its reference, ``models:/NAME/VERSION``; None if there is none.
    :raises ModelError: if modelmill did not register it.
    """
    found = list(all_pages(client.search_model_versions, filter_string=f"name = '{name}'"))
    if not found:
        return None
    newest = max(found, key=lambda version: int(version.version))
    if TAG_DIGEST not in newest.tags or TAG_ROLE not in newest.tags:
        raise ModelError(
            "the newest version of a registered model must say what it is",
            got=f"{name} version {newest.version} without the tags {TAG_DIGEST} and {TAG_ROLE}",
            remedy="it was registered by hand: delete that version, or choose another name",
        )
    return _tagged(newest)


def model_at(client: MlflowClient, uri: str) -> ModelRef:
    """Return the reference of a logged model or of a registered version.

    :param client: MLflow's client.
    :param uri: ``models:/m-…`` or ``models:/NAME/VERSION``.
    :return: the reference.
    :raises ModelError: if it carries no lineage.
    """
    name, _, version = uri.removeprefix("models:/").partition("/")
    return reference(client.get_model_version(name, version)) if version else logged_model(client, uri)


def missing_lineage(tags: Mapping[str, str]) -> list[str]:
    """Return what a model's tags leave open about its origin.

    :param tags: of a logged model, or of a version.
    :return: one phrase for each thing that is missing.
    """
    return [f"{what} (tag {name})" for name, what in _LINEAGE.items() if not tags.get(name)]


def reference(version: ModelVersion) -> ModelRef:
    """Return the reference of a registered version, from its tags; ModelError names all that is missing."""
    missing = missing_lineage(version.tags)
    if missing:
        raise ModelError(
            f"a registered version must carry its lineage; missing: {', '.join(missing)}",
            got=f"{version.name} version {version.version}",
            remedy="it was registered by hand: move the alias to a version that passed the gate, with "
            f"modelmill registry rollback {version.name} --to VERSION",
        )
    return _tagged(version)


def _tagged(version: ModelVersion) -> ModelRef:
    return ModelRef(
        uri=f"models:/{version.name}/{version.version}",
        run_id=version.run_id or "",
        digest=version.tags[TAG_DIGEST],
        format=model_format(version.tags.get(TAG_FORMAT)),
        role=version.tags[TAG_ROLE],
        parent=version.tags.get(TAG_PARENT),
        trunk=version.tags.get(TAG_TRUNK),
    )


def register(
    client: MlflowClient,
    name: str,
    model: ModelRef,
    *,
    above: int | None = None,
    tags: Mapping[str, str] | None = None,
    logged: Mapping[str, str] | None = None,
) -> ModelVersion:
    """Register a logged model, or return the version that has its files already.

    :param client: MLflow's client.
    :param name: registered model; made if it does not exist.
    :param model: the model.
    :param above: the champion: a promotion moves the alias to a higher version, so a lower one with the same
        files is not taken. None: any.
    :param tags: further tags of a new version.
    :param logged: the logged model's tags, if they are known; MLflow is asked for them otherwise.
    :return: the version.
    """
    if not _made_model(client, name):
        found = [
            version for version in _with_files_of(client, name, model) if int(version.version) > (above or 0)
        ]
        if found:
            return found[-1]
    model_id = model.uri.removeprefix("models:/")
    lineage = {
        **(client.get_logged_model(model_id).tags if logged is None else logged),
        TAG_DIGEST: model.digest,
        TAG_ROLE: model.role,
        TAG_FORMAT: model.format,
        **(tags or {}),
    }
    own = {key: value for key, value in lineage.items() if key.startswith("modelmill.")}
    attempt = uuid.uuid4().hex
    return made_once(
        lambda: client.create_model_version(
            name, source=model.uri, run_id=model.run_id, tags={**own, TAG_ATTEMPT: attempt}, model_id=model_id
        ),
        lambda: [
            version
            for version in _with_files_of(client, name, model)
            if version.tags.get(TAG_ATTEMPT) == attempt
        ],
        name=lambda version: str(version.version or ""),
        # No alias has ever pointed at it.
        drop=lambda version: client.delete_model_version(name, str(version.version)),
    )


def _with_files_of(client: MlflowClient, name: str, model: ModelRef) -> list[ModelVersion]:
    """Return the versions of a registered model that have a model's files, the oldest first."""
    found = patiently(lambda: client.search_model_versions(f"name = '{name}'"))
    same = [version for version in found if version.tags.get(TAG_DIGEST) == model.digest]
    return sorted(same, key=lambda version: int(version.version))


def register_all(client: MlflowClient, models: Mapping[str, ModelRef], *, experiment: str) -> None:
    """Register logged models, each under its name, but for those that are registered already.

    :param client: MLflow's client.
    :param models: the models by name.
    :param experiment: id of the experiment of the runs that logged them.
    """
    known = _registered(client, {model.run_id for model in models.values()})
    new = {name: model for name, model in models.items() if (name, model.digest) not in known}
    tags = {
        f"models:/{logged.model_id}": logged.tags
        for run in sorted({model.run_id for model in new.values()})
        for logged in all_pages(
            client.search_logged_models,
            experiment_ids=[experiment],
            filter_string=f"source_run_id = '{run}'",
        )
    }
    for name, model in new.items():
        register(client, name, model, logged=tags.get(model.uri))


def _registered(client: MlflowClient, runs: Collection[str]) -> set[tuple[str, str]]:
    """Return names and digests of the versions that were registered out of runs."""
    listed = ", ".join(f"'{run}'" for run in sorted(runs))
    versions = all_pages(client.search_model_versions, filter_string=f"run_id IN ({listed})")
    return {(version.name, version.tags.get(TAG_DIGEST, "")) for version in versions}


def _made_model(client: MlflowClient, name: str) -> bool:
    """Make a registered model; return False if it exists."""
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException:
        return False
    return True


def verify_stored(model: ModelRef) -> None:
    """Download what MLflow hands out, past every cache.

    MLflow calls a version READY even if its files are missing.

    :param model: the model.
    :raises ModelError: if its files are not those that were logged.
    :raises TransientError: if MLflow does not hand them out.
    """
    with scratch_folder("modelmill-verify-") as scratch:
        fetch_bundle(model, scratch)


def verified_version(client: MlflowClient, name: str, version: int) -> ModelRef:
    """Return the reference of a version whose lineage is whole and whose stored files are as they were
    logged.

    :param client: MLflow's client.
    :param name: registered model.
    :param version: its number.
    :return: the reference.
    :raises GateError: if MLflow has no such version.
    :raises ModelError: if its files or its lineage are not what they were.
    """
    found = version_numbered(client, name, version)
    if found is None:
        raise GateError(
            f"the version of {name} that becomes champion, or is it, must exist",
            got=version,
            remedy="it was deleted from MLflow: name another one",
        )
    model = reference(found)
    verify_stored(model)
    return model
