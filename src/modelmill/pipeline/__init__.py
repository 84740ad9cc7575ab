"""Pipelines as data: specification, validation, the component catalogue and the step runner."""
