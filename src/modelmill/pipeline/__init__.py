"""Pipelines as data: specification, validation, the catalogue, the step runner."""
