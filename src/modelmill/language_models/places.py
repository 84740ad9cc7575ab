"""Where a language model answers: at an endpoint, or in this process."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from modelmill.language_models.batch_endpoint import BatchClient
from modelmill.language_models.client import Client, Sender
from modelmill.language_models.endpoint import Endpoint
from modelmill.language_models.options import Asking


class Place(Protocol):
    """Where a language model answers."""

    @property
    def digest(self) -> str:
        """Names the place in file names; the limits a minute are kept under it."""

    def client(self, asking: Asking) -> AbstractContextManager[Sender]:
        """Return what sends requests there, until it is closed.

        :param asking: how it is asked.
        :return: the sender.
        """

    def batch_client(self, asking: Asking) -> AbstractContextManager[BatchClient]:
        """Return what sends batches there, until it is closed.

        :param asking: how it is asked.
        :return: the client.
        :raises ConfigError: if the place takes none.
        """


@dataclass(frozen=True)
class Remote:
    """An endpoint."""

    endpoint: Endpoint

    @property
    def digest(self) -> str:
        """See :attr:`Place.digest`."""
        return self.endpoint.digest

    def client(self, asking: Asking) -> Client:
        """See :meth:`Place.client`; no connection is made yet."""
        return Client(self.endpoint, timeout=asking.timeout_seconds, connections=asking.concurrency)

    def batch_client(self, asking: Asking) -> BatchClient:
        """See :meth:`Place.batch_client`; no connection is made yet."""
        return BatchClient(self.endpoint, timeout=asking.timeout_seconds)
