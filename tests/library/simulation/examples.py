"""State machines as tests: a few examples in the suite, 200 in CI, as many as one likes by hand."""

from __future__ import annotations

import os
from typing import Any

import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import RuleBasedStateMachine

_ASKED = os.environ.get("MODELMILL_EXAMPLES")


def tried(machine: type[RuleBasedStateMachine], *, few: int, steps: int = 15) -> Any:
    """Return the test of a state machine.

    :param machine: the machine.
    :param few: examples, unless ``MODELMILL_EXAMPLES`` says how many.
    :param steps: acts in each, at most.
    :return: a test case for pytest to collect.
    """
    case: Any = machine.TestCase
    case.settings = settings(
        settings.get_profile("patient"),
        max_examples=int(_ASKED or few),
        stateful_step_count=steps,
        # A failing example takes minutes to shrink; its steps are few as they are.
        phases=[Phase.explicit, Phase.reuse, Phase.generate],
        report_multiple_bugs=False,
    )
    case.pytestmark = pytest.mark.timeout(3600)  # however many there are
    return case
