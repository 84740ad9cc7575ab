"""Rows that a minute has no room for: they fail by name, and the others are labelled."""

from __future__ import annotations

from collections.abc import Callable, Collection

from modelmill.errors import ConfigError
from modelmill.language_models.asker import Tally
from modelmill.language_models.plan import Plan

_MOST_NAMED = 5
_REMEDY = "raise tokens_per_minute, or send fewer columns"


def check_room(
    tally: Tally, plan: Plan, *, wanted: Collection[str], per_minute: int | None, log: Callable[[str], None]
) -> None:
    """Say which rows need more tokens than a minute has, and were not asked.

    :param tally: what happened.
    :param plan: of the table.
    :param wanted: keys of the requests that the result needs.
    :param per_minute: tokens that a minute has; None: not limited.
    :param log: gets a line, if there are such rows.
    :raises ConfigError: if no request fits.
    """
    keys = {key for key, why in tally.unanswered.items() if why == "too long"}
    if not keys or per_minute is None:
        return
    found = f"about {tally.tokens_needed:,.0f} tokens at most, and {per_minute:,} are allowed"
    if keys.issuperset(wanted):
        raise ConfigError("a request must fit into the tokens of a minute", got=found, remedy=_REMEDY)
    rows = [
        str(number)
        for number, planned in enumerate(zip(*plan.signals.values(), strict=True))
        if any(key in keys for row in planned for key in row.keys)
    ]
    several = "request needs" if len(keys) == 1 else "requests need"
    more = " and others" if len(rows) > _MOST_NAMED else ""
    log(
        f"{len(keys):,} {several} more tokens than a minute has ({found}), so not asked: row "
        f"{', '.join(rows[:_MOST_NAMED])}{more} of the table, counted from 0; {_REMEDY}"
    )
