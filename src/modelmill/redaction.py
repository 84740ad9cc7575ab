"""Taking secrets out of what leaves a process: logs, errors, MLflow, links, XCom.

Three kinds are known: what stands before the ``@`` of a URL, values that a text names (``password=…``,
``--token …``, ``Authorization: Bearer …``), and the values of environment variables that are called like a
secret, also as URLs and JSON have them.
"""

from __future__ import annotations

import functools
import json
import os
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, quote_plus, urlsplit

HIDDEN = "***"

_CALLED = (
    r"(?:pass(?:word|wd|phrase)|pwd|secret|token|credentials?|authorization|cookie|sharedaccesssignature"
    r"|(?:api|access|account|secret|private|shared|signing|fernet|storage|llm)[_.-]?(?:access[_.-]?)?key"
    r"|connection[_.-]?string)"
)
_NAMED_SECRET = re.compile(
    rf"(?:^|[_.-])(?:{_CALLED}|sql_alchemy_conn)$|^airflow_conn_|^pgpassword$", re.IGNORECASE
)
_SECRET_VARIABLE = re.compile(
    r"_(?:PASS|DSN|PAT|AUTH|JWT|WEBHOOK_URL|CREDENTIALS_JSON|BACKEND_KWARGS)$", re.IGNORECASE
)
"""Of environment variables alone: a parameter may well be called ``first_pass``."""
_HARMLESS_NAME = re.compile(r"signing_key$|^(?:old)?pwd$", re.IGNORECASE)
"""``MODELMILL_SIGNING_KEY`` is the path of a file, ``PWD`` the shell's folder."""
_ENDS_IN_SECRET = re.compile(rf"(?:{_CALLED}|[?&](?:sas|(?:x-(?:amz|goog)-)?sig(?:nature)?))$")
_LAST_WORDS = (
    *("password", "passwd", "passphrase", "pwd", "secret", "token", "credential", "credentials"),
    *("authorization", "key", "string", "sas", "sig", "signature", "cookie"),
)
_USER_INFO = re.compile(r"://([^/\s?#'\"<>]*)@(?=[^\s/@])")
_USER_AND_PATH = re.compile(r"://([^\s/?#'\"<>:@]{0,100}:(?!\d{1,5}[/?#])[^\s'\"<>@]{1,200})@(?=[^\s/@])")
"""A password with a slash in it, which should not be; a port before a path is none."""
_SPOKEN = re.compile(
    rf"(--[\w.-]{{0,40}}?{_CALLED}\s+[\"']?|\b(?:bearer|basic)\s+(?=[\w.~+/=-]{{0,200}}\d|[\w.~+/=-]{{20}})"
    r"|fs\.azure\.(?:account\.key|sas)[\w.-]{0,120}[\"']?\s{0,9}[=:,]\s{0,9}[\"']?)(?!\*)[^\s,;&'\"(){}\[\]]{4,}",
    re.IGNORECASE,
)
_COOKIES = re.compile(r"\b(cookie:[ \t]{0,9})[^\s'\"][^\r\n'\"]*", re.IGNORECASE)
_CONTAINER = re.compile(r"(?:abfss?|wasbs?)$")
"""Schemes of Azure, where a container's name stands before the ``@``."""
_SEPARATOR = re.compile(r"[=:]")
_VALUE = re.compile(
    r"\s{0,20}((?:(?:bearer|basic|token|apikey)\s)?(?:\\*b?\"[^\"]*(?:\"|$)|b?'[^']*(?:'|$)|[^\s,;&'\"(){}\[\]]+))",
    re.IGNORECASE,
)
_LONGEST_NAME = 40
_SHORTEST = 8
"""Values of fewer characters are not looked for: they would be found in words."""


def is_secret_name(name: str) -> bool:
    """Return whether a key, a parameter or an environment variable is called like a secret.

    :param name: such as ``options.password`` or ``AWS_SECRET_ACCESS_KEY``.
    :return: True for a secret's name; ``max_tokens`` or ``key`` are none.
    """
    return bool(_NAMED_SECRET.search(name)) and not _HARMLESS_NAME.search(name)


def secret_values(environment: Mapping[str, str | None] | None = None) -> tuple[str, ...]:
    """Return the values that environment variables keep secret, the longest first.

    :param environment: the variables; None: those of this process.
    :return: values of eight characters or more; of a URL with a password, the password.
    """
    found = set[str]()
    for name, value in (os.environ if environment is None else environment).items():
        if not value:
            continue
        if is_secret_name(name) or _SECRET_VARIABLE.search(name):
            found.add(value)
        found |= {part for part in _passwords(value) if part}
    return tuple(sorted((value for value in found if len(value) >= _SHORTEST), key=len, reverse=True))


def _passwords(value: str) -> list[str]:
    return [info.partition(":")[2] for info in _USER_INFO.findall(value)]


def redacted(text: str, *, secrets: tuple[str, ...] | None = None) -> str:
    """Return a text without the secrets in it.

    :param text: what is to leave the process.
    :param secrets: see :func:`secret_values`; None: of this process's environment.
    :return: the text, ``***`` in place of each.
    """
    for value in secret_values() if secrets is None else secrets:
        for form in _forms(value):
            text = text.replace(form, HIDDEN)
    text = _USER_AND_PATH.sub(f"://{HIDDEN}@", _USER_INFO.sub(_without_user, text))
    text = _COOKIES.sub(rf"\1{HIDDEN}", _SPOKEN.sub(rf"\1{HIDDEN}", text))
    return _without_named(text)


@functools.lru_cache(maxsize=256)
def _forms(secret: str) -> tuple[str, ...]:
    """Return a secret as it is, in a URL, and in JSON."""
    forms = (secret, quote(secret, safe=""), quote(secret), quote_plus(secret), json.dumps(secret)[1:-1])
    return tuple(dict.fromkeys(forms))


def public_url(url: str) -> str:
    """Return a server's URL for a link: without credentials, query and fragment.

    :param url: an HTTP URL.
    :return: the URL, without a slash at its end.
    """
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=host, query="", fragment="").geturl().rstrip("/")


def _without_user(found: re.Match[str]) -> str:
    before = found.string[max(found.start() - 5, 0) : found.start()]
    return found[0] if _CONTAINER.search(before) and ":" not in found[1] else f"://{HIDDEN}@"


def _without_named(text: str) -> str:
    """Hide what follows a secret's name. The name is looked for backwards, so that this takes linear time."""
    pieces, done = list[str](), 0
    for separator in _SEPARATOR.finditer(text):
        at = separator.start()
        name = text[max(at - _LONGEST_NAME, 0) : at].rstrip("\"' \\").lower()
        if at < done or not name.endswith(_LAST_WORDS) or not _ENDS_IN_SECRET.search(name):
            continue
        value = _VALUE.match(text, separator.end())
        if value:
            quote = value[1][0] if value[1][0] in "\"'" else ""
            pieces += [text[done : value.start(1)], f"{quote}{HIDDEN}{quote}"]
            done = value.end()
    return "".join(pieces) + text[done:]


def redacted_value(name: str, value: Any) -> Any:
    """Return a value that is to be shown under a name.

    :param name: dotted name, such as ``options.password``.
    :param value: anything.
    :return: ``***`` under a secret's name; a text without its secrets; anything else as it is.
    """
    if value in (None, "", {}, [], ()) or isinstance(value, bool):
        return value
    if is_secret_name(name):
        return HIDDEN
    return redacted(value) if isinstance(value, str) else value
