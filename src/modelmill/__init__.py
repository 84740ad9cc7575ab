"""modelmill: from Delta tables to small models, and from small models to explained decisions.

The library knows nothing of an orchestrator: the Airflow operators call it, it never calls them.
"""

from modelmill.pipeline.spec import PipelineSpec
from modelmill.pipeline.validation import load_pipeline, parse_pipeline
from modelmill.version import __version__

__all__ = ["PipelineSpec", "__version__", "load_pipeline", "parse_pipeline"]
