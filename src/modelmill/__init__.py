"""modelmill: from Delta tables to small models, and from small models to explained decisions.

The library knows nothing of an orchestrator: the Airflow operators call it, it never calls them.
"""

from typing import TYPE_CHECKING, Any

from modelmill.version import __version__

if TYPE_CHECKING:
    from modelmill.api import Model, compress, distill, fine_tune, prune, quantize
    from modelmill.pipeline.spec import PipelineSpec
    from modelmill.pipeline.validation import load_pipeline, parse_pipeline

_API = ("Model", "compress", "distill", "fine_tune", "prune", "quantize")

__all__ = [
    "Model",
    "PipelineSpec",
    "__version__",
    "compress",
    "distill",
    "fine_tune",
    "load_pipeline",
    "parse_pipeline",
    "prune",
    "quantize",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is asked for: a step does not need what reads pipelines or trains."""
    if name in _API:
        from modelmill import api

        return getattr(api, name)
    if name == "PipelineSpec":
        from modelmill.pipeline.spec import PipelineSpec

        return PipelineSpec
    if name in __all__:
        from modelmill.pipeline import validation

        return getattr(validation, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
