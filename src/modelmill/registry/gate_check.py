"""What a check of the gate is: a configuration that compares a challenger in one respect.

Another distribution adds checks with an entry point in the group ``modelmill.gate_checks`` that names a
module; every subclass of :class:`GateCheck` at that module's top level can then be listed under ``checks``.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from importlib.metadata import entry_points
from types import ModuleType
from typing import TYPE_CHECKING, ClassVar

from modelmill.errors import ConfigError
from modelmill.extensions import loaded
from modelmill.options import Options

if TYPE_CHECKING:
    from modelmill.registry.comparison import Comparison, NotJudged
    from modelmill.registry.contest import Contest
    from modelmill.settings import Settings

ENTRY_POINT_GROUP = "modelmill.gate_checks"


class GateCheck(Options):
    """Base of checks. A subclass has a field ``check``, a ``Literal``: its name in YAML.

    Declarations are read by Airflow's parser: a check imports what it needs when it runs.
    """

    any_task: ClassVar[bool] = False
    """Whether it makes sense for every kind of label; False: it asks whether one class is right."""
    check: str

    @abstractmethod
    def compare(self, contest: Contest) -> Iterable[Comparison | NotJudged]:
        """Compare a challenger with the others.

        :param contest: dataset, labels, challenger, champion and parent.
        :return: comparisons, and what could not be judged.
        """

    def outside_state(self, name: str, settings: Settings) -> str:  # noqa: ARG002 (most read nothing)
        """Return a fingerprint of what the check reads beside the contest.

        A finished verdict is used again only while it stays the same.

        :param name: the registered model that a challenger is proposed for.
        :param settings: where MLflow is.
        :return: empty if it reads nothing else.
        """
        return ""


def known_checks(own: Sequence[ModuleType]) -> dict[str, type[GateCheck]]:
    """Return the checks of modelmill and of other distributions by their names.

    :param own: modelmill's modules with checks.
    :return: the checks.
    :raises ConfigError: if two modules declare the same name.
    """
    found: dict[str, type[GateCheck]] = {}
    for module in (*own, *(loaded(entry) for entry in entry_points(group=ENTRY_POINT_GROUP))):
        for check in vars(module).values():
            if not (isinstance(check, type) and issubclass(check, GateCheck)) or check is GateCheck:
                continue
            name = str(check.model_fields["check"].default)
            if found.setdefault(name, check) is not check:
                raise ConfigError(
                    "two checks of a gate cannot have one name",
                    got=name,
                    remedy=f"rename the one in {module.__name__}",
                )
    return found
