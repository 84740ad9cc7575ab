"""The kinds of signal: modelmill's own, and those that other distributions add.

Another distribution adds kinds with an entry point in the group ``modelmill.signals`` that names a module;
every :class:`~modelmill.signals.kinds.SignalKind` at that module's top level can then be used in rule sets.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Union

from pydantic import Field, ValidatorFunctionWrapHandler, WrapValidator

from modelmill.errors import InputError, SignalError
from modelmill.extensions import declared_in, with_others
from modelmill.signals import column, measured, model, phrases, regex, sql, video
from modelmill.signals.groups import SignalContext, SignalGroup
from modelmill.signals.kinds import AnySignalKind, Signal, SignalKind

ENTRY_POINT_GROUP = "modelmill.signals"


@functools.cache
def signal_kinds() -> Mapping[str, AnySignalKind]:
    """Return every known kind of signal by name.

    :return: a read-only mapping.
    :raises ConfigError: if two modules declare the same name, or that of an entry point declares none.
    """
    modules = (column, regex, phrases, sql, measured, video, model)
    own: list[AnySignalKind] = [kind for module in modules for kind in declared_in(module, SignalKind)]
    found = with_others(own, SignalKind, group=ENTRY_POINT_GROUP, noun="kinds of signal")
    return MappingProxyType(found)


@functools.cache
def _kinds_by_config() -> Mapping[type[Signal], AnySignalKind]:
    return {kind.config: kind for kind in signal_kinds().values()}


def kind_of(signal: Signal) -> AnySignalKind:
    """Return the kind of a signal, given its configuration."""
    return _kinds_by_config()[type(signal)]


def _refused_in_place(content: object, validate: ValidatorFunctionWrapHandler) -> Signal:
    """Make a mistake of the rule set, which has its place, of an error that a kind's validator raises."""
    try:
        signal: Signal = validate(content)
    except InputError as error:
        raise ValueError(str(error)) from error
    return signal


if TYPE_CHECKING:
    AnySignal = Signal
else:  # the classes are known once every module that declares kinds has been imported
    AnySignal = Annotated[
        Union[  # noqa: UP007 (a union of a tuple)
            tuple(
                Annotated[kind.config, WrapValidator(_refused_in_place)] for kind in signal_kinds().values()
            )
        ],
        Field(discriminator="kind"),
    ]


def build_groups(signals: Mapping[str, Signal], context: SignalContext) -> list[SignalGroup]:
    """Make the groups of signals.

    :param signals: configurations by name.
    :param context: what the groups are made of.
    :return: the groups, in the order in which the rule set first uses their kinds.
    :raises SignalError: if a group cannot be made; the first such group is named.
    """
    shares: dict[Callable[..., Any], dict[str, Signal]] = {}
    for name, signal in signals.items():
        kind = kind_of(signal)
        for operand in kind.operands(name, signal):
            operand.check(name, context.schema)
        shares.setdefault(kind.groups, {})[name] = signal
    groups = [group for make, share in shares.items() for group in make(share, context)]
    for group in groups:
        for name, info in group.signals.items():
            declared = kind_of(signals[name]).result(name, signals[name], context.schema)
            if declared not in (info.kind, None):
                raise SignalError(
                    f"signal {name!r} must have the kind that its declaration gives: {declared}",
                    got=f"{info.kind} from group {group.name}",
                    remedy="fix the signal's kind",
                )
    return groups
