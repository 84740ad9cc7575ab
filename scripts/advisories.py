"""Look for versions with known holes: in what is installed, what is pinned, and what the images install.

``python scripts/advisories.py`` ends with 1 and names them, if there are any. It asks nobody: the holes stand
in ``advisories.toml`` beside this file. A part of ``./run lint``.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from packaging.specifiers import Specifier, SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

ROOT = Path(__file__).resolve().parents[1]
LIST = ROOT / "scripts/advisories.toml"
_PIN = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^\]]*\])?==([^\s;\\]+)", re.MULTILINE)


@dataclass(frozen=True)
class Advisory:
    """A hole, or some, of a distribution."""

    name: str
    bad: tuple[SpecifierSet, ...]
    """Ranges of versions that have it."""
    ids: tuple[str, ...]
    why: str

    def covers(self, version: str) -> bool:
        """Return whether a version has the hole; what is no version may have it.

        :param version: of a distribution with this name; a local part, such as ``+cpu``, does not matter.
        :return: whether one of the ranges has it.
        """
        try:
            plain = Version(Version(version).public)
        except InvalidVersion:
            return True
        return any(all(_within(plain, one) for one in range_) for range_ in self.bad)


def _within(version: Version, one: Specifier) -> bool:
    if one.operator == "<":  # for which 5.23rc1 is not below 5.23: it may well have the hole
        return version < Version(one.version)
    return one.contains(version, prereleases=True)


def advisories(path: Path = LIST) -> list[Advisory]:
    """Read the list.

    :param path: its file.
    :return: the advisories.
    :raises ValueError: if one is not whole, or a range is none.
    """
    found = []
    for entry in tomllib.loads(path.read_text())["advisory"]:
        if set(entry) != {"name", "bad", "ids", "why"} or not all(entry.values()):
            raise ValueError(f"an advisory has a name, bad versions, ids and why; got {entry}")
        bad = tuple(SpecifierSet(one) for one in entry["bad"])
        found.append(Advisory(canonicalize_name(entry["name"]), bad, tuple(entry["ids"]), entry["why"]))
    return found


def installed() -> Iterator[tuple[str, str, str]]:
    """Yield name, version and place of what this Python has."""
    for one in metadata.distributions():
        if one.name:
            yield one.name, one.version, "installed"


def pinned(root: Path = ROOT) -> Iterator[tuple[str, str, str]]:
    """Yield name, version and place of what a file pins.

    :param root: of the repository.
    :yield: each pin of ``constraints.txt`` and of the images' locks.
    """
    for path in (root / "constraints.txt", *sorted((root / "docker/locks").glob("*.txt"))):
        for name, version in _PIN.findall(path.read_text()):
            yield name, version, str(path.relative_to(root))


def problems(found: Iterable[tuple[str, str, str]], known: Iterable[Advisory]) -> list[str]:
    """Return what has a known hole.

    :param found: name, version and place of distributions.
    :param known: the advisories.
    :return: a line for each.
    """
    by_name: dict[str, list[Advisory]] = {}
    for one in known:
        by_name.setdefault(one.name, []).append(one)
    return [
        f"{place}: {name} {version} has {', '.join(one.ids)}: {one.why}"
        for name, version, place in found
        for one in by_name.get(canonicalize_name(name), ())
        if one.covers(version)
    ]


def main() -> None:
    """Name what has a known hole, and end with 1 if anything does."""
    looked = [*installed(), *pinned()]
    wrong = problems(looked, advisories())
    for line in wrong:
        print(line, file=sys.stderr)
    if wrong:
        raise SystemExit(1)
    print(
        f"none of {len({(name, version) for name, version, _ in looked}):,} versions has a hole of the list"
    )


if __name__ == "__main__":
    main()
