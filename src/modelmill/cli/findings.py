"""What ``modelmill doctor`` finds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from packaging.version import InvalidVersion, Version

Verdict = Literal["ok", "warning", "failed"]

LEAST = {
    "apache-airflow-core": "3.3.2",
    "deltalake": "1.6",
    "mlflow": "3.17.2",
    "onnx": "1.23",
    "torch": "2.13",
    "transformers": "5.23",
}
"""Older ones run code that a model brings, read files outside its folder, or let anybody in."""


@dataclass(frozen=True)
class Finding:
    """What one check has found."""

    check: str
    verdict: Verdict
    found: str
    remedy: str = ""


def is_older(found: str, least: str) -> bool:
    """Compare versions as PEP 440 orders them: ``3.3.2rc1`` and ``3.3.2.dev1`` come before ``3.3.2``.

    A local version, such as ``2.13.0+cpu``, is the one that it was built of; what is no version is older.

    :param found: a version.
    :param least: another one.
    :return: whether the first comes before the second.
    """
    try:
        return Version(Version(found).public) < Version(least)
    except InvalidVersion:
        return True
