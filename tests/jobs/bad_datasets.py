"""What a bad input is, and which of them do not end as they should yet.

The inputs themselves are data: ``bad_files`` (ingest), ``bad_tables`` (delta_table), ``bad_rows``
(build_dataset). Each case makes its input below a folder and returns the step's configuration.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modelmill.errors import InputError, TableError

Config = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """One bad input."""

    component: str
    name: str
    make: Callable[[Path], Config]
    error: type[InputError] | None = None
    """Class of the refusal; None: the step goes through."""
    said: tuple[str, ...] = ()
    """Parts of its message."""
    rows: int | None = None
    """Rows that came out; None: not checked."""
    reasons: Mapping[str, int] = field(default_factory=dict)
    """Quarantined rows by reason."""

    @classmethod
    def refused(
        cls,
        component: str,
        name: str,
        make: Callable[[Path], Config],
        *said: str,
        error: type[InputError] = TableError,
    ) -> Case:
        """An input that the step refuses."""
        return cls(component, name, make, error=error, said=said)

    @classmethod
    def taken(cls, component: str, name: str, make: Callable[[Path], Config], **out: Any) -> Case:
        """An input that the step takes, with what comes out."""
        return cls(component, name, make, **out)

    @property
    def wrong_today(self) -> str:
        """What happens instead, where the case does not hold yet."""
        me = (self.component, self.name)
        return next((what for what, cases in WRONG_TODAY.items() if me in cases), "")


WRONG_TODAY: Mapping[str, tuple[tuple[str, str], ...]] = {}
"""Cases that do not hold yet, by what happens instead: taken out of this list when they do."""
