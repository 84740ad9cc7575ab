"""The folder of rule sets, with every version that was saved."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from modelmill.documents.folder import DocumentFile, DocumentKind
from modelmill.documents.names import NAME_PATTERN
from modelmill.documents.parsing import wanted_name
from modelmill.documents.versioned_folder import VersionedFolder
from modelmill.errors import Problem, RuleSetError
from modelmill.rules.reading import MAX_BYTES, parse_rule_set
from modelmill.rules.rule_set import RuleSet


@dataclass(frozen=True)
class RuleSetFile(DocumentFile[RuleSet]):
    """A rule set's file that has been read."""

    noun = "rule_set"

    @property
    def name(self) -> str:
        """The rule set's name; of an invalid file, the one it asks for, else that of the file."""
        return self.content.rule_set if self.content else super().name


def _made(path: str, text: str) -> RuleSetFile:
    rule_set, problems, wanted = _parsed(text)
    return RuleSetFile(path, text, rule_set, problems, wanted)


def _unreadable(path: str, problems: tuple[Problem, ...]) -> RuleSetFile:
    return RuleSetFile(path, "", None, problems)


RULE_SETS: DocumentKind[RuleSetFile] = DocumentKind(
    noun="rule set",
    variable="MODELMILL_PARAM_RULES",
    most_bytes=MAX_BYTES,
    error=RuleSetError,
    make=_made,
    unreadable=_unreadable,
)


class RuleSetStore(VersionedFolder[RuleSetFile]):
    """Rule sets in a folder.

    :param folder: local folder or fsspec URL.
    """

    def __init__(self, folder: str) -> None:
        super().__init__(folder, RULE_SETS)


@functools.lru_cache(maxsize=64)
def _parsed(text: str) -> tuple[RuleSet | None, tuple[Problem, ...], str]:
    """Parse a text once: a server reads the same files again and again."""
    try:
        return parse_rule_set(text), (), ""
    except RuleSetError as error:
        return None, error.problems, wanted_name(text, "rule_set", NAME_PATTERN)
