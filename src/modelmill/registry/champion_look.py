"""Looking up the champions of hundreds of registered models together, for a question about many steps.

Each gate and each promotion asks who is champion, which is a request to MLflow: 600 of them for a night of
300 signals. MLflow lists models with their aliases, a thousand in a request. The ledger is opened once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING

from modelmill.registry.champion import Registry, alias_version
from modelmill.registry.ledger_table import champion_counter, open_ledger
from modelmill.registry.tracking import tracking_client
from modelmill.registry.versions import CHAMPION, patiently
from modelmill.tables.opening import transaction_version

if TYPE_CHECKING:
    from deltalake import DeltaTable

    from modelmill.settings import Settings

ALONE = 20
"""So many models are looked up one by one: a listing of all costs MLflow as much as that."""
_A_REQUEST = 1000
_MOST_REQUESTS = 10
"""Of a registry with more models, others than those listed are looked up one by one."""


class _Look:
    def __init__(self) -> None:
        self._found: dict[tuple[str, str], int | None] = {}
        self._listed: set[str] = set()
        self._ledgers: dict[str, DeltaTable | None] = {}

    def version(self, name: str, settings: Settings) -> int | None:
        place = (settings.tracking_uri, name)
        if place not in self._found and len(self._found) >= ALONE:
            self._list(settings)
        if place not in self._found:
            self._found[place] = _asked(name, settings)
        return self._found[place]

    def ledger(self, settings: Settings) -> DeltaTable | None:
        if settings.ledger not in self._ledgers:
            self._ledgers[settings.ledger] = open_ledger(settings)
        return self._ledgers[settings.ledger]

    def _list(self, settings: Settings) -> None:
        """Keep the champion of each model that MLflow lists."""
        uri = settings.tracking_uri
        if uri in self._listed:
            return
        self._listed.add(uri)
        ask = partial(tracking_client(uri).search_registered_models, max_results=_A_REQUEST)
        token: str | None = None
        for _ in range(_MOST_REQUESTS):
            page = patiently(partial(ask, page_token=token))
            for model in page:
                version = model.aliases.get(CHAMPION)
                self._found.setdefault((uri, model.name), None if version is None else int(version))
            token = page.token
            if not token:
                return


_looks: ContextVar[_Look | None] = ContextVar("looks", default=None)


@contextlib.contextmanager
def one_look() -> Iterator[None]:
    """Look up each champion once within the block, and many together: for questions, which only read."""
    before = _looks.set(_Look())
    try:
        yield
    finally:
        _looks.reset(before)


def champion_version(name: str, settings: Settings) -> int | None:
    """Return the version that is in use.

    :param name: registered model.
    :param settings: where MLflow is.
    :return: the version; None if there is none.
    """
    look = _looks.get()
    return _asked(name, settings) if look is None else look.version(name, settings)


def _asked(name: str, settings: Settings) -> int | None:
    return alias_version(Registry(tracking_client(settings.tracking_uri), settings), name)


def has_rows(name: str, settings: Settings) -> bool:
    """Return whether the ledger has rows of a model: one that was removed, or begun anew, has none.

    :param name: registered model.
    :param settings: where the ledger is.
    :return: whether there is one.
    :raises TableError: if the ledger cannot be read.
    """
    look = _looks.get()
    table = open_ledger(settings) if look is None else look.ledger(settings)
    return table is not None and transaction_version(table, champion_counter(name)) is not None
