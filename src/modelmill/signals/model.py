"""Signals that a registered model of texts or images answers."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

from modelmill.errors import SignalError
from modelmill.signals.groups import SignalContext, SignalGroup
from modelmill.signals.kinds import Operand, SignalKind
from modelmill.signals.model_config import ModelSignal
from modelmill.signals.pinned_models import PinnedModel, pin_models
from modelmill.signals.values import Kind


def _operands(_name: str, signal: ModelSignal) -> tuple[Operand, ...]:
    return (Operand(signal.column, ("text", "bytes")),)


def _result(_name: str, signal: ModelSignal, _schema: pa.Schema | None) -> Kind:
    return "float" if signal.output == "probability" else "text"


def _groups(signals: Mapping[str, ModelSignal], context: SignalContext) -> list[SignalGroup]:
    """Make a group of the models on each trunk and column, and of each other model."""
    from modelmill.signals.model_cascade import ModelCascade
    from modelmill.signals.model_groups import ModelGroup

    named = [model for signal in signals.values() for model in signal.models()]
    unpinned = [model for model in named if model not in context.pins]
    pins = {**pin_models(unpinned, context.settings), **context.pins}
    shares: dict[tuple[str, str], dict[str, ModelSignal]] = {}
    for name, signal in signals.items():
        shares.setdefault((_shared_pass(name, signal, pins), signal.column), {})[name] = signal
    groups: list[SignalGroup] = []
    for (what, column), share in shares.items():
        has_first = any(signal.first for signal in share.values())
        make = ModelCascade if has_first else ModelGroup
        groups.append(make(f"{what} on {column}", column, share, pins))
    return groups


def _shared_pass(name: str, signal: ModelSignal, pins: Mapping[str, PinnedModel]) -> str:
    """Return the name of what answers a signal: signals with the same name share a pass."""
    from modelmill.models.bundle import BundleInfo
    from modelmill.signals.model_groups import class_number

    found: list[BundleInfo] = []
    for model in signal.models():
        if pins[model].missing:
            return f"no model for {name}"
        info = BundleInfo.load(pins[model].bundle())
        if info.target != "class":
            raise SignalError(
                f"the model of signal {name!r} must answer with one class",
                got=f"{model}, of kind {info.target}",
                remedy="name another model",
            )
        if signal.label is not None:
            class_number(name, signal.label, info)
        found.append(info)
    trunk = found[0].trunk
    return f"trunk {trunk[:12]}" if trunk else f"model {pins[signal.model].digest[:12]}"


model = SignalKind(
    title="Model",
    config=ModelSignal,
    operands=_operands,
    result=_result,
    groups=_groups,
    models=ModelSignal.models,
)
