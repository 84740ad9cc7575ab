"""modelmill: from Delta tables to small models, and from small models to explained decisions.

The library knows nothing of an orchestrator: the Airflow operators call it, it never calls them.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from modelmill.version import __version__

if TYPE_CHECKING:
    from modelmill.api import Model, compress, distill, evaluate, fine_tune, prune, quantize
    from modelmill.pipeline.spec import PipelineSpec
    from modelmill.pipeline.validation import load_pipeline, parse_pipeline
    from modelmill.rules.frames import decide, load_rule_set

__all__ = [
    "Model",
    "PipelineSpec",
    "__version__",
    "compress",
    "decide",
    "distill",
    "evaluate",
    "fine_tune",
    "load_pipeline",
    "load_rule_set",
    "parse_pipeline",
    "prune",
    "quantize",
]

_ELSEWHERE = {
    "PipelineSpec": "modelmill.pipeline.spec",
    "decide": "modelmill.rules.frames",
    "load_pipeline": "modelmill.pipeline.validation",
    "load_rule_set": "modelmill.rules.frames",
    "parse_pipeline": "modelmill.pipeline.validation",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is asked for: whoever reads pipelines need not import what trains."""
    if name in __all__:
        return getattr(import_module(_ELSEWHERE.get(name, "modelmill.api")), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
