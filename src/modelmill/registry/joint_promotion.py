"""Promotions of many models that happen together, and going back from them together."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from modelmill.errors import ConfigError, GateError
from modelmill.registry import joint_ledger, joint_moves
from modelmill.registry.bundles import fetch_bundle
from modelmill.registry.champion import Registry, reconciled_head
from modelmill.registry.joint_ledger import JointMove, key_of
from modelmill.registry.ledger import Entry, Head, current_user
from modelmill.registry.promotion import StaleVerdictError
from modelmill.registry.replacement import HeadVerdict
from modelmill.registry.tracking import StepRun, tracking_client
from modelmill.registry.versions import missing_lineage, reference, register, version_numbered
from modelmill.system.scratch import scratch_folder

if TYPE_CHECKING:
    from modelmill.artifacts import ModelRef
    from modelmill.settings import Settings


def promote_together(verdicts: Sequence[HeadVerdict], step: StepRun, *, evidence: str) -> JointMove | None:
    """Make all new heads champions that may move, at one moment; what stays gets a row that says why.

    :param verdicts: what was said of each signal.
    :param step: the step that promotes.
    :param evidence: URI of the report.
    :return: the move; None if there is nothing to write down.
    :raises GateError: if a head does not carry its lineage.
    :raises StaleVerdictError: if a champion is another one than was compared with: nothing has moved.
    :raises ModelError: if the files of a head are not what they were: nothing has moved.
    """
    registry = Registry(step.run.client, step.settings, step.log)
    judged = {one.name: one for one in verdicts if one.outcome in ("moves", "stays")}
    if not judged:
        return None
    versions = _published([one for one in judged.values() if one.outcome == "moves"], registry)

    def entries(heads: Mapping[str, Head], number: int) -> list[Entry]:
        _check_current(judged, heads)
        return [
            _entry(one, heads[name], versions.get(name), step).model_copy(
                update={
                    "step_key": key_of(number, step.step_key),
                    "evidence": evidence,
                    "reasons": (*one.reasons, f"joint move {number}"),
                }
            )
            for name, one in judged.items()
        ]

    move = joint_moves.move_together(registry, list(judged), entries, step_key=step.step_key)
    step.log(
        f"joint move {move.number}: {len(move.moving)} champions have moved together, "
        f"{len(move.rows) - len(move.moving)} stay; "
        f"back: modelmill registry rollback --together {move.number}"
    )
    return move


def _check_current(judged: Mapping[str, HeadVerdict], heads: Mapping[str, Head]) -> None:
    stale = [
        f"{name}: {heads[name].champion} instead of {one.champion_version}"
        for name, one in judged.items()
        if heads[name].champion != one.champion_version
    ]
    if stale:
        raise StaleVerdictError(
            "the champions must be those that the new heads were compared with",
            got="; ".join(stale),
            remedy="somebody has moved them meanwhile: run the step again",
        )


def _entry(one: HeadVerdict, head: Head, version: int | None, step: StepRun) -> Entry:
    return Entry(
        action="refuse" if version is None else "promote",
        model=one.name,
        from_version=head.champion,
        to_version=head.champion if version is None else version,
        digest=one.challenger.digest,
        pipeline=step.pipeline,
        run_id=step.run.run_id,
        step_key=step.step_key,
    )


def _published(moving: Sequence[HeadVerdict], registry: Registry) -> dict[str, int]:
    """Register the heads that move; their lineage and what MLflow hands out of them are checked."""
    found: dict[str, ModelRef] = {}
    for one in moving:
        version = register(registry.client, one.name, one.challenger, above=one.champion_version)
        missing = missing_lineage(version.tags)
        if missing:
            raise GateError(
                f"a model that is promoted must carry its lineage; missing: {', '.join(missing)}",
                got=one.challenger.uri,
                remedy="make it with a pipeline, or log it with modelmill.registry.bundles.log_model",
            )
        found[one.name] = reference(version)
    _verify(found.values())
    return {name: model.version for name, model in found.items()}


def _verify(models: Iterable[ModelRef]) -> None:
    with scratch_folder("modelmill-verify-") as scratch:  # a trunk that many share is fetched once
        for model in models:
            fetch_bundle(model, scratch)


def rollback_together(
    number: int,
    settings: Settings,
    *,
    why: str,
    who: str | None = None,
    say: Callable[[str], None] = print,
) -> JointMove:
    """Make the champions before a joint move champions again, at one moment.

    A model whose champion has moved since stays as it is, and is told of. The versions' files and lineage are
    verified first.

    :param number: of the joint move.
    :param settings: where MLflow and the ledger are.
    :param why: goes into the ledger.
    :param who: who wants it; None: the user that this process runs as.
    :param say: gets each line to show.
    :return: the move back, which has a number of its own.
    :raises ConfigError: if ``why`` is empty.
    :raises GateError: if there is no such move, nothing of it is in use, a version that would be gone back to
        is gone, or champions move meanwhile.
    :raises ModelError: if a version's files or its lineage are not what they were.
    """
    if not why.strip():
        raise ConfigError("a rollback needs a reason: it goes into the ledger", remedy="say why")
    registry = Registry(tracking_client(settings.tracking_uri), settings, say)
    joint_moves.finish_open_move(registry)
    move = joint_ledger.joint_move(settings, number)
    if move is None:
        raise GateError(
            "a rollback needs a joint move that happened",
            got=number,
            remedy="see modelmill registry history: their rows say joint move N",
        )
    back = _before(move, registry)
    _verify(back.values())
    key = f"rollback/{uuid.uuid4()}"

    def entries(heads: Mapping[str, Head], own: int) -> list[Entry]:
        moved = [name for name in back if heads[name].champion != move.moving[name].to_version]
        if moved:
            raise GateError(
                "champions must not move while a rollback is prepared",
                got=", ".join(moved),
                remedy="look at modelmill registry history, and decide again",
            )
        return [
            Entry(
                action="rollback",
                model=name,
                from_version=heads[name].champion,
                to_version=move.moving[name].from_version,
                digest=model.digest,
                reasons=(why.strip(), f"joint move {own}, back from joint move {number}"),
                step_key=key_of(own, key),
                who=who or current_user(),
            )
            for name, model in back.items()
        ]

    made = joint_moves.move_together(registry, list(back), entries, step_key=key)
    say(
        f"joint move {made.number}: {len(made.moving)} champions are back where they were before joint move "
        f"{number}: {why.strip()}"
    )
    return made


def _before(move: JointMove, registry: Registry) -> dict[str, ModelRef]:
    """Return the champions before a joint move, of the models whose champion it still is that made."""
    back: dict[str, ModelRef] = {}
    for name, row in move.moving.items():
        head = reconciled_head(registry, name)
        if head.champion != row.to_version or row.from_version is None:
            stays = f"{name}: version {head.champion} is champion, and stays it"
            registry.say(f"{stays}: joint move {move.number} did not make it so")
            continue
        found = version_numbered(registry.client, name, row.from_version)
        if found is None:
            raise GateError(
                f"the version of {name} that was champion before must exist",
                got=row.from_version,
                remedy="it was deleted from MLflow: go back model by model with modelmill registry rollback",
            )
        back[name] = reference(found)
    if not back:
        raise GateError(
            "a rollback needs champions that the joint move made",
            got=f"none of {len(move.moving)} is in use",
            remedy="see modelmill registry history",
        )
    return back
