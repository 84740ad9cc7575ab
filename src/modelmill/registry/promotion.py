"""Registering what passed the gate and making it champion.

Order: the artifacts are there, digest, register, verify the stored files, move the champion (only if it is
still the one that the gate compared with; :mod:`modelmill.registry.champion` says how, and what becomes of
an attempt that dies). A promotion moves the alias to a higher version; only a rollback goes back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelmill.artifacts import DatasetRef, ModelRef, VerdictRef
from modelmill.errors import GateError, ModelError
from modelmill.registry.bundles import TAG_DATASET_REFERENCE, TAG_DIGEST, fetch_bundle
from modelmill.registry.champion import Registry, move, note, reconciled_head
from modelmill.registry.champion_look import champion_version
from modelmill.registry.ledger import Entry, Head, find
from modelmill.registry.tracking import StepRun
from modelmill.registry.versions import (
    CHAMPION,
    TAG_VERDICT,
    champion_of,
    checked_name,
    missing_lineage,
    reference,
    register,
    verify_stored,
)
from modelmill.system.locks import locked

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion


__all__ = ["CHAMPION", "StaleVerdictError", "champion", "champion_version", "promote"]


class StaleVerdictError(GateError):
    """The champion is another one than the gate compared with: the gate has to run again."""


def champion(name: str, client: MlflowClient) -> ModelRef | None:
    """Return the model that is in use.

    :param name: registered model.
    :param client: MLflow's client.
    :return: its reference; None if there is none.
    :raises ModelError: if it carries no lineage.
    """
    found = champion_of(client, name)
    return None if found is None else reference(found)


def in_use(name: str, client: MlflowClient) -> tuple[ModelRef, DatasetRef]:
    """Return the model that is in use, and the dataset that it was trained or checked on.

    :param name: registered model.
    :param client: MLflow's client.
    :return: both references.
    :raises GateError: if there is none.
    :raises ModelError: if it carries no lineage, or names no dataset.
    """
    found = champion_of(client, name)
    if found is None:
        raise GateError(f"{name} must have a champion to use", got="none", remedy="promote one first")
    dataset = found.tags.get(TAG_DATASET_REFERENCE)
    if dataset is None:
        raise ModelError(
            f"the champion of {name} must say which dataset it learned from",
            got=f"version {found.version} without the tag {TAG_DATASET_REFERENCE}",
            remedy="a rule set has none; a model of an earlier modelmill is made again",
        )
    return reference(found), DatasetRef.model_validate_json(dataset)


def promote(verdict: VerdictRef, step: StepRun) -> ModelRef:
    """Promote a challenger that passed; a refused one changes nothing.

    :param verdict: what the gate said.
    :param step: the step that promotes.
    :return: the champion afterwards.
    :raises GateError: if it was refused and there is no champion, or the champion has changed since the gate.
    :raises ModelError: if the challenger's files, or its lineage, are not what they were.
    """
    registry = Registry(step.run.client, step.settings, step.log)
    name = checked_name(verdict.name)
    # Processes of one machine take turns here, and so need not register what then comes too late.
    with locked(step.settings.home / "locks" / f"{name}.lock"):
        if verdict.passed:
            _promote(verdict, registry, step)
        else:
            _refuse(verdict, registry, step)
        current = champion_of(registry.client, name)
    if current is None:
        raise GateError(
            f"the first champion of {name} must pass the gate ({'; '.join(verdict.reasons)})",
            got=verdict.challenger.uri,
            remedy=f"see the report {verdict.uri}",
        )
    step.run.set_tags({"modelmill.model_name": name, "modelmill.model_version": str(current.version)})
    return reference(current)


def _refuse(verdict: VerdictRef, registry: Registry, step: StepRun) -> None:
    row = note(
        registry,
        verdict.name,
        lambda head: _entry(verdict, head, head.champion, step),
        step_key=step.step_key,
    )
    stays = "there is no champion" if row.to_version is None else f"version {row.to_version} stays champion"
    step.log(f"{verdict.name}: the challenger is refused ({'; '.join(verdict.reasons)}); {stays}")


def _promote(verdict: VerdictRef, registry: Registry, step: StepRun) -> None:
    name = verdict.name
    head = reconciled_head(registry, name, step_key=step.step_key)
    earlier = find(step.settings, name, step.step_key)
    if earlier is not None:
        step.log(f"{name}: an earlier attempt made version {earlier.to_version} champion")
        return
    current = champion_of(registry.client, name)
    if current is not None and current.tags.get(TAG_DIGEST) == verdict.challenger.digest:
        step.log(f"{name}: version {current.version} is champion already, and stays it")
        return
    _check_current(verdict, head)
    version = _published(verdict, head, registry, step)

    def entry(now: Head) -> Entry:
        _check_current(verdict, now)
        return _entry(verdict, now, int(version.version), step)

    move(registry, name, entry, step_key=step.step_key)
    step.log(f"{name}: version {version.version} is champion")


def _check_current(verdict: VerdictRef, head: Head) -> None:
    if head.champion != verdict.champion_version:
        raise StaleVerdictError(
            f"the champion of {verdict.name} must be the one that the gate compared with, version "
            f"{verdict.champion_version}",
            got=head.champion,
            remedy="somebody has moved it meanwhile: run the gate again",
        )


def _published(verdict: VerdictRef, head: Head, registry: Registry, step: StepRun) -> ModelVersion:
    """Register the challenger; its files and its lineage are checked before and after."""
    fetch_bundle(verdict.challenger, step.cache)
    version = register(
        registry.client,
        verdict.name,
        verdict.challenger,
        above=head.champion,
        tags={TAG_VERDICT: verdict.uri},
    )
    missing = missing_lineage(version.tags)
    if missing:
        raise GateError(
            f"a model that is promoted must carry its lineage; missing: {', '.join(missing)}",
            got=verdict.challenger.uri,
            remedy="make it with a pipeline, or log it with modelmill.registry.bundles.log_model",
        )
    verify_stored(reference(version))
    if verdict.summary:  # the version's card
        registry.client.update_model_version(verdict.name, version.version, description=verdict.summary)
    return version


def _entry(verdict: VerdictRef, head: Head, to: int | None, step: StepRun) -> Entry:
    approved = (f"approved by {verdict.approved_by}",) if verdict.approved_by else ()
    return Entry(
        action="promote" if verdict.passed else "refuse",
        model=verdict.name,
        from_version=head.champion,
        to_version=to,
        digest=verdict.challenger.digest,
        reasons=(*verdict.reasons, *approved),
        evidence=verdict.uri,
        pipeline=step.pipeline,
        run_id=step.run.run_id,
        step_key=step.step_key,
    )
