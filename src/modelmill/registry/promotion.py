"""Registering what passed the gate and moving the alias ``champion`` to it.

Order: artifacts are there, digest, register, verify the stored files, move the alias (only if it still points
where the gate saw it), ledger. An attempt that dies anywhere leaves the old champion in use, and the next one
finds what was done and goes on from there.
"""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from modelmill.artifacts import ModelRef, VerdictRef
from modelmill.errors import GateError, ModelError
from modelmill.locks import locked
from modelmill.registry.ledger import Action, Entry, record
from modelmill.registry.models import TAG_DIGEST, TAG_PARENT, TAG_ROLE, fetch_bundle
from modelmill.registry.tracking import tracking_client

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

    from modelmill.pipeline.component import StepContext
    from modelmill.settings import Settings

CHAMPION = "champion"
"""Alias of the version in use."""


def champion_version(name: str, settings: Settings) -> int | None:
    """Return the version that is in use.

    :param name: registered model.
    :param settings: where MLflow is.
    :return: the version; None if there is none.
    """
    found = _champion(tracking_client(settings.tracking_uri), name)
    return None if found is None else int(found.version)


def champion(name: str, client: MlflowClient) -> ModelRef | None:
    """Return the model that is in use.

    :param name: registered model.
    :param client: MLflow's client.
    :return: its reference; None if there is none.
    :raises ModelError: if it carries no lineage.
    """
    found = _champion(client, name)
    return None if found is None else _reference(found)


def run(verdict: VerdictRef, context: StepContext) -> ModelRef:
    """Promote a challenger that passed; leave everything as it is for one that was refused.

    :param verdict: what the gate said.
    :param context: the step's context.
    :return: the champion afterwards.
    :raises GateError: if it was refused and there is no champion, or the champion has changed since the gate.
    """
    client = context.run.client
    with locked(context.settings.home / "locks" / f"{verdict.name}.lock"):
        current = _champion(client, verdict.name)
        if not verdict.passed:
            return _refuse(verdict, current, context)
        if current is None or current.tags.get(TAG_DIGEST) != verdict.challenger.digest:
            current = _promote(verdict, current, context)
        elif int(current.version) == verdict.champion_version:
            context.log(f"{verdict.name}: version {current.version} is champion already, and stays it")
            return _finish(_reference(current), context)
        # The row is also written when an earlier attempt moved the alias and died: the ledger takes it once.
        _record("promote", verdict, int(current.version), context)
        context.log(f"{verdict.name}: version {current.version} is champion")
        return _finish(_reference(current), context)


def _refuse(verdict: VerdictRef, current: ModelVersion | None, context: StepContext) -> ModelRef:
    version = None if current is None else int(current.version)
    _record("refuse", verdict, version, context)
    reasons = "; ".join(verdict.reasons)
    if current is None:
        raise GateError(
            f"the first champion of {verdict.name} must pass the gate ({reasons})",
            got=verdict.challenger.uri,
            remedy=f"see the report {verdict.uri}",
        )
    context.log(f"{verdict.name}: the challenger is refused ({reasons}); version {version} stays champion")
    return _finish(_reference(current), context)


def _promote(verdict: VerdictRef, current: ModelVersion | None, context: StepContext) -> ModelVersion:
    client, name = context.run.client, verdict.name
    before = None if current is None else int(current.version)
    if before != verdict.champion_version:
        raise GateError(
            f"the champion of {name} must be the one that the gate compared with, version "
            f"{verdict.champion_version}",
            got=before,
            remedy="somebody has moved it meanwhile: run the gate again",
        )
    fetch_bundle(verdict.challenger, context.cache)
    version = _registered(client, name, verdict.challenger) or _register(client, verdict)
    _verify_stored(_reference(version))
    client.set_registered_model_alias(name, CHAMPION, version.version)
    found = _champion(client, name)
    if found is None or found.version != version.version:
        raise GateError(
            f"the alias {CHAMPION} of {name} must point at version {version.version} after the promotion",
            got=None if found is None else found.version,
            remedy="another process moves it without the gate: find it, and run the gate again",
        )
    return found


def _registered(client: MlflowClient, name: str, challenger: ModelRef) -> ModelVersion | None:
    """Return the version that has the challenger's files already."""
    found = client.search_model_versions(f"name = '{name}'")
    same = [version for version in found if version.tags.get(TAG_DIGEST) == challenger.digest]
    return max(same, key=lambda version: int(version.version)) if same else None


def _register(client: MlflowClient, verdict: VerdictRef) -> ModelVersion:
    from mlflow.exceptions import MlflowException

    challenger, name = verdict.challenger, verdict.name
    with contextlib.suppress(MlflowException):  # it exists
        client.create_registered_model(name)
    model_id = challenger.uri.removeprefix("models:/")
    tags = {
        **client.get_logged_model(model_id).tags,
        TAG_DIGEST: challenger.digest,
        TAG_ROLE: challenger.role,
        "modelmill.format": challenger.format,
        "modelmill.verdict": verdict.uri,
    }
    tags = {key: value for key, value in tags.items() if key.startswith("modelmill.")}
    return client.create_model_version(
        name, source=challenger.uri, run_id=challenger.run_id, tags=tags, model_id=model_id
    )


def _verify_stored(version: ModelRef) -> None:
    """Download what the registry hands out, past every cache: to MLflow a version without files is READY."""
    with tempfile.TemporaryDirectory(prefix="modelmill-verify-") as scratch:
        fetch_bundle(version, Path(scratch))


def _champion(client: MlflowClient, name: str) -> ModelVersion | None:
    from mlflow.exceptions import MlflowException

    try:
        return client.get_model_version_by_alias(name, CHAMPION)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise


def _reference(version: ModelVersion) -> ModelRef:
    if TAG_DIGEST not in version.tags:
        raise ModelError(
            "a registered version must carry its lineage",
            got=f"{version.name} version {version.version}",
            remedy=f"it was registered by hand (tag {TAG_DIGEST} is missing): move the alias to one that "
            "passed the gate",
        )
    return ModelRef(
        uri=f"models:/{version.name}/{version.version}",
        run_id=version.run_id or "",
        digest=version.tags[TAG_DIGEST],
        format="onnx" if version.tags.get("modelmill.format") == "onnx" else "torch",
        role=version.tags.get(TAG_ROLE, ""),
        parent=version.tags.get(TAG_PARENT),
    )


def _record(action: Action, verdict: VerdictRef, version: int | None, context: StepContext) -> None:
    entry = Entry(
        action=action,
        model=verdict.name,
        from_version=verdict.champion_version,
        to_version=version,
        digest=verdict.challenger.digest,
        reasons=verdict.reasons,
        evidence=verdict.uri,
        pipeline=context.pipeline,
        step_key=context.step_key,
    )
    record(entry, context.settings)


def _finish(model: ModelRef, context: StepContext) -> ModelRef:
    _, name, version = model.uri.rsplit("/", 2)
    context.run.set_tags({"modelmill.model_name": name, "modelmill.model_version": version})
    return model
