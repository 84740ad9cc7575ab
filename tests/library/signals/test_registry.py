"""The kinds of signal: what each declares, and what a wrong declaration gives."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from types import ModuleType
from typing import Any

import pyarrow as pa
import pytest

from modelmill import extensions
from modelmill.errors import ConfigError, SignalError
from modelmill.settings import Settings
from modelmill.signals import registry
from modelmill.signals.cascade import CascadeGroup
from modelmill.signals.column import ColumnSignal
from modelmill.signals.groups import Evaluation, SignalContext, SignalGroup
from modelmill.signals.regex import regex
from modelmill.signals.registry import build_groups, kind_of, signal_kinds

SCHEMA = pa.schema([("size", pa.int64()), ("text", pa.string())])


@pytest.fixture
def entry(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """A module that an entry point names."""
    module = ModuleType("acme")

    class Entry:
        def load(self) -> ModuleType:
            return module

    monkeypatch.setattr(extensions, "entry_points", lambda group: [Entry()] if "signals" in group else [])
    signal_kinds.cache_clear()
    yield module
    signal_kinds.cache_clear()


def test_every_kind_describes_itself() -> None:
    assert list(signal_kinds()) == ["column", "regex", "phrases", "sql", "measured", "video", "model"]
    for name, kind in signal_kinds().items():
        assert kind.name == name
        assert kind.title
        assert kind.help.endswith((".", ")")), name
        properties: dict[str, Any] = kind.config.model_json_schema()["properties"]
        assert properties["kind"]["const"] == name
        assert list(properties)[:2] == ["description", "kind"]


def test_a_kind_says_what_it_reads_and_gives() -> None:
    signal = ColumnSignal()
    kind = kind_of(signal)
    assert [operand.column for operand in kind.operands("size", signal)] == ["size"]
    assert kind.result("size", signal, SCHEMA) == "integer"
    assert kind.result("size", signal, None) is None
    assert kind.result("sizes", signal, SCHEMA) is None
    assert kind.models(signal) == ()


def test_a_name_belongs_to_one_module(entry: ModuleType) -> None:
    entry.mine = replace(regex, title="Mine")  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match="got 'regex'; rename the one in acme"):
        signal_kinds()


def test_a_group_gives_the_kind_that_is_declared(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = replace(kind_of(ColumnSignal()), result=lambda _name, _signal, _schema: "text")
    monkeypatch.setattr(registry, "kind_of", lambda _signal: wrong)
    with pytest.raises(
        SignalError, match="signal 'size' must have the kind that its declaration gives: text"
    ):
        build_groups({"size": ColumnSignal()}, SignalContext(SCHEMA, Settings.from_environment()))


def test_the_cascade_is_no_part_of_a_plain_group() -> None:
    assert {"quick", "settled_by"}.isdisjoint({*vars(SignalGroup), *vars(Evaluation)})
    assert issubclass(CascadeGroup, SignalGroup)
