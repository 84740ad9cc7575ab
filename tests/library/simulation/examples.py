"""How many examples are tried: a few in the suite, as many as one likes by hand."""

from __future__ import annotations

import os

from hypothesis import Phase, settings

EXAMPLES = int(os.environ.get("MODELMILL_EXAMPLES", "12"))

# A failing example takes minutes to shrink; its steps are few as they are.
MACHINES = settings(
    settings.get_profile("patient"),
    max_examples=EXAMPLES,
    stateful_step_count=15,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    report_multiple_bugs=False,
)
