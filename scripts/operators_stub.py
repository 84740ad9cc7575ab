"""Write the types of modelmill's operators for editors: ``python scripts/operators_stub.py``.

The operators are made from the components' declarations when they are first used, which no editor can follow.
The stub declares each of them with the class of its configuration; a test compares it with the declarations.
"""

from __future__ import annotations

from pathlib import Path

from modelmill.pipeline.catalogue import catalogue
from modelmill_operators.operators import operator_name

STUB = Path(__file__).parents[1] / "operators/modelmill_operators/__init__.pyi"

_HEAD = """\
# Written by scripts/operators_stub.py from the components' declarations.
from collections.abc import Mapping
from typing import Any, Generic, TypeVar

from modelmill.component import Config
{configs}
from modelmill_operators.assets import conditional_asset as conditional_asset
from modelmill_operators.assets import watched_table as watched_table
from modelmill_operators.operators import operator_for as operator_for
from modelmill_operators.rollback import RollbackOperator as RollbackOperator
from modelmill_operators.step import StepOperator as StepOperator
from modelmill_operators.triggers import DeltaTableTrigger as DeltaTableTrigger

_ConfigT = TypeVar("_ConfigT", bound=Config)

class _ComponentOperator(StepOperator, Generic[_ConfigT]):
    def __init__(
        self,
        *,
        task_id: str,
        inputs: Mapping[str, Any] | None = ...,
        config: _ConfigT | Mapping[str, Any] | None = ...,
        **kwargs: Any,
    ) -> None: ...
"""

_CLASS = '''
class {name}(_ComponentOperator[{config}]):
    """{help}"""
'''


def stub() -> str:
    """Return the text of the stub, with an operator for each of modelmill's own components."""
    own = {
        name: component
        for name, component in sorted(catalogue().items())
        if component.run.__module__.startswith("modelmill.")
    }
    configs = {f"from {item.config.__module__} import {item.config.__name__}" for item in own.values()}
    classes = [
        _CLASS.format(name=operator_name(name), config=component.config.__name__, help=component.help)
        for name, component in own.items()
    ]
    return _HEAD.format(configs="\n".join(sorted(configs))) + "".join(classes)


if __name__ == "__main__":
    STUB.write_text(stub())
