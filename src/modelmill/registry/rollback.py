"""Going back: to the champion before, to the champion at a time, or to a version by its number."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING

from modelmill.errors import ConfigError, GateError
from modelmill.registry import champion
from modelmill.registry.champion import Registry
from modelmill.registry.history import champion_at, history, previous_champion
from modelmill.registry.ledger import Entry, Head, LedgerRow, current_user, find
from modelmill.registry.tracking import tracking_client
from modelmill.registry.versions import checked_name, verified_version

if TYPE_CHECKING:
    from modelmill.settings import Settings


def rollback(
    name: str,
    settings: Settings,
    *,
    why: str,
    to: int | None = None,
    at: datetime | None = None,
    who: str | None = None,
    step_key: str | None = None,
    say: Callable[[str], None] = print,
) -> LedgerRow:
    """Make an earlier version champion again. Its files and its lineage are verified first.

    :param name: registered model.
    :param settings: where MLflow and the ledger are.
    :param why: goes into the ledger.
    :param to: version to go back to.
    :param at: go back to the champion at this time. Neither: to the champion before.
    :param who: who wants it; None: the user that this process runs as.
    :param step_key: a rollback with the same key happens once; None: another one each time.
    :param say: gets each line to show.
    :return: the ledger's row.
    :raises ConfigError: if ``why`` is empty, or both a version and a time are given.
    :raises GateError: if there is nothing to go back to, or the champion moves meanwhile.
    :raises ModelError: if the version's files or its lineage are not what they were.
    """
    if not why.strip():
        raise ConfigError("a rollback needs a reason: it goes into the ledger", remedy="say why")
    if to is not None and at is not None:
        raise ConfigError("a rollback goes to a version or to a time", got="both", remedy="leave one out")
    key = step_key or f"rollback/{uuid.uuid4()}"
    registry = Registry(tracking_client(settings.tracking_uri), settings, say)
    seen = champion.reconciled_head(registry, checked_name(name), step_key=key)
    earlier = find(settings, name, key)
    if earlier is not None:
        return earlier
    version = _target(name, settings, seen, to=to, at=at)
    digest = verified_version(registry.client, name, version).digest

    def entry(head: Head) -> Entry:
        if head.champion != seen.champion:
            raise GateError(
                f"the champion of {name} must not move while a rollback is prepared",
                got=f"version {head.champion} instead of {seen.champion}",
                remedy="look at modelmill registry history, and decide again",
            )
        return Entry(
            action="rollback",
            model=name,
            from_version=head.champion,
            to_version=version,
            digest=digest,
            reasons=(why.strip(),),
            step_key=key,
            who=who or current_user(),
        )

    row = champion.move(registry, name, entry, step_key=key)
    say(f"{name}: rolled back from version {row.from_version} to {row.to_version}: {why.strip()}")
    return row


def _target(name: str, settings: Settings, seen: Head, *, to: int | None, at: datetime | None) -> int:
    version = to
    if at is not None:
        then = champion_at(name, at, settings)
        version = then.to_version if then else None
    elif to is None:
        version = previous_champion(history(name, settings))
    if version is None:
        raise GateError(
            f"{name} must have a champion to go back to",
            got="none at that time" if at else "none before the present one",
            remedy="see modelmill registry history, and name a version",
        )
    if version == seen.champion:
        raise GateError(
            f"a rollback of {name} goes to another version than the champion",
            got=version,
            remedy="see modelmill registry history, and name another one",
        )
    return version
