"""The guard: finds champions that did not come through the gate, moves left half-done, and damaged files.

It compares the alias of each model with the ledger whenever it is started: by a nightly DAG, by cron, or by
hand. MLflow tells nobody when an alias was moved, so a move by hand counts from when it was
found.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from modelmill.errors import GateError, ModelmillError
from modelmill.options import Record
from modelmill.registry import champion, joint_moves, ledger
from modelmill.registry.champion import Registry
from modelmill.registry.history import history, models
from modelmill.registry.ledger import Entry, Head, LedgerRow
from modelmill.registry.versions import checked_name, verified_version

OnHandMove = Literal["report", "revert"]


class GuardFinding(Record):
    """A problem with a champion."""

    model: str
    kind: Literal["hand_move", "half_done", "damaged"]
    version: int | None
    """Version that the alias pointed at."""
    mended: bool
    """Whether the guard has fixed it."""
    sentence: str


class GuardReport(Record):
    """What the guard found."""

    models: tuple[str, ...]
    """Models that were looked at."""
    findings: tuple[GuardFinding, ...]

    @property
    def open(self) -> tuple[GuardFinding, ...]:
        """What a person has to fix."""
        return tuple(finding for finding in self.findings if not finding.mended)


def inspect(
    registry: Registry,
    names: Sequence[str] = (),
    *,
    on_hand_move: OnHandMove = "report",
    verify_files: bool = True,
) -> GuardReport:
    """Check models, write moves by hand into the ledger, and fix what can be fixed.

    A champion that was set by hand before the ledger had a row of its model is never reverted: there is
    nothing to go back to.

    :param registry: MLflow and the ledger.
    :param names: registered models; empty: all that the ledger has rows of.
    :param on_hand_move: whether the alias is moved back to the last champion that came through modelmill.
    :param verify_files: whether the champions' files are downloaded and compared with their digests.
    :return: what was found.
    :raises TableError: if the ledger cannot be read, or was changed.
    """
    joint = joint_moves.finish_open_move(registry)
    looked_at = tuple(checked_name(name) for name in names) or tuple(models(registry.settings))
    findings: list[GuardFinding] = []
    if joint is not None:
        sentence = (
            f"joint move {joint.number} of {len(joint.moving)} models was left half-done, and is finished now"
        )
        findings.append(
            GuardFinding(
                model=", ".join(joint.moving), kind="half_done", version=None, mended=True, sentence=sentence
            )
        )
    for name in looked_at:
        findings += _look(registry, name, on_hand_move=on_hand_move, verify_files=verify_files)
    for finding in findings:
        registry.say(finding.sentence)
    return GuardReport(models=looked_at, findings=tuple(findings))


def _look(
    registry: Registry, name: str, *, on_hand_move: OnHandMove, verify_files: bool
) -> list[GuardFinding]:
    findings = []
    before = ledger.head(registry.settings, name)
    head = champion.reconciled_head(registry, name)
    if before.last is not None and not before.settled:
        sentence = f"{name}: the move to version {before.champion} was left half-done, and is finished now"
        findings.append(
            GuardFinding(
                model=name, kind="half_done", version=before.champion, mended=True, sentence=sentence
            )
        )
    placed = [row for row in history(name, registry.settings) if row.action != "refuse"]
    if placed and placed[-1].action == "hand_move":
        findings.append(_hand_moved(registry, name, placed, revert=on_hand_move == "revert"))
        head = champion.settled_head(registry, name)
    if verify_files and head.champion is not None:
        findings += _damage(registry, name, head.champion)
    return findings


def _hand_moved(registry: Registry, name: str, placed: Sequence[LedgerRow], *, revert: bool) -> GuardFinding:
    last = placed[-1]
    ours = [row.to_version for row in placed if row.action != "hand_move" and row.to_version is not None]
    back = ours[-1] if ours else None
    version = "no version" if last.to_version is None else f"version {last.to_version}"
    what = f"{name}: {version} is champion, set by hand and not by the gate, found {last.time:%F %T}"
    outcome, mended = "nothing was done about it", False
    if revert and back is None:
        outcome = "there is no champion of the gate's to go back to"
    elif revert and back is not None:
        try:
            _revert(registry, name, last, back)
            outcome, mended = f"moved back to version {back}", True
        except ModelmillError as error:
            outcome = f"it cannot be moved back to version {back}: {error}"
    return GuardFinding(
        model=name,
        kind="hand_move",
        version=last.to_version,
        mended=mended,
        sentence=f"{what}: {outcome}",
    )


def _revert(registry: Registry, name: str, last: LedgerRow, back: int) -> None:
    digest = verified_version(registry.client, name, back).digest
    key = f"revert/{name}/{last.number}"

    def entry(head: Head) -> Entry:
        if head.champion != last.to_version:
            raise GateError(f"the champion of {name} must not move while it is reverted", got=head.champion)
        return Entry(
            action="revert",
            model=name,
            from_version=head.champion,
            to_version=back,
            digest=digest,
            reasons=("moved without the gate",),
            step_key=key,
        )

    champion.move(registry, name, entry, step_key=key)


def _damage(registry: Registry, name: str, version: int) -> list[GuardFinding]:
    try:
        verified_version(registry.client, name, version)
    except ModelmillError as error:
        sentence = f"{name}: version {version} is champion, and is not as it was logged: {error}"
        return [GuardFinding(model=name, kind="damaged", version=version, mended=False, sentence=sentence)]
    return []
