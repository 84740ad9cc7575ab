"""Importing what is large, and what an extra brings."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator

from modelmill.errors import ConfigError


@contextlib.contextmanager
def without_collections() -> Iterator[None]:
    """Import without a search for garbage: an import makes little, and MLflow's is a fifth search."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


@contextlib.contextmanager
def needing_extra(needs: str, extra: str) -> Iterator[None]:
    """Import what one of modelmill's extras brings.

    :param needs: what needs it, with the verb: ``videos need``.
    :param extra: the extra.
    :yield: for the import.
    :raises ConfigError: if it is not installed.
    """
    try:
        yield
    except ImportError as error:
        raise ConfigError(
            f"{needs} an extra ({error})", remedy=f"pip install 'modelmill[{extra}]'"
        ) from error
