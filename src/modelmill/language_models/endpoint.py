"""Where a language model answers, and the secret that opens it: environment variables of the step's process.

``MODELMILL_LLM_URL`` is the URL up to and with ``/v1``, ``MODELMILL_LLM_KEY`` the key that is sent as a
bearer token, if there is one. Under Airflow they come from the connection that a step names as
``llm_connection``.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from modelmill.errors import ConfigError

URL_VARIABLE = "MODELMILL_LLM_URL"
KEY_VARIABLE = "MODELMILL_LLM_KEY"


@dataclass(frozen=True)
class Endpoint:
    """An endpoint."""

    url: str
    """Without a slash at its end."""
    key: str = field(default="", repr=False)
    """Empty: none is sent."""

    @classmethod
    def from_environment(cls) -> Endpoint:
        """Read the variables of this process.

        :return: the endpoint.
        :raises ConfigError: as :meth:`of`.
        """
        return cls.of(os.environ)

    @classmethod
    def of(cls, variables: Mapping[str, str | None]) -> Endpoint:
        """Read the variables.

        :param variables: values by name.
        :return: the endpoint.
        :raises ConfigError: if no URL is given, it is not an ``http`` URL without user and query, or the key
            cannot be sent as a header.
        """
        url = (variables.get(URL_VARIABLE) or "").strip().rstrip("/")
        if not url:
            raise ConfigError(
                f"a language model's URL must be given in {URL_VARIABLE}",
                remedy="name an Airflow connection of type http as llm_connection, or set the variable",
            )
        try:
            parts = urlsplit(url)
            is_whole = parts.port != 0 and url.isprintable() and " " not in url
        except ValueError:  # a bracket that is not closed, a port that is none
            parts, is_whole = urlsplit(""), False
        is_plain = is_whole and not (parts.query or parts.fragment or "@" in parts.netloc)
        if parts.scheme not in ("http", "https") or not parts.hostname or not is_plain:
            raise ConfigError(
                f"{URL_VARIABLE} is an http or https URL without user and query, such as https://host/v1",
                got=f"{parts.scheme}://…",
                remedy=f"give a key in {KEY_VARIABLE}",
            )
        key = (variables.get(KEY_VARIABLE) or "").strip()
        if not (key.isascii() and key.isprintable()):
            raise ConfigError(
                f"{KEY_VARIABLE} is one line of ASCII characters",
                got=f"{len(key)} characters, others among them",
                remedy="copy the key again, or see the connection's password",
            )
        return cls(url, key)

    @property
    def digest(self) -> str:
        """Names the endpoint and its account in file names, without showing either."""
        return hashlib.sha256(f"{self.url}\n{self.key}".encode()).hexdigest()[:24]

    def without_key(self, text: str) -> str:
        """Return a server's text with the key taken out, should the server repeat it."""
        return text.replace(self.key, "…") if self.key else text
