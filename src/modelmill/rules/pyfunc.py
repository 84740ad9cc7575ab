"""Kept for rule sets that were logged before: the script in their MLflow model imports this module."""

from modelmill.rules.lifecycle.pyfunc import DecisionModel

__all__ = ["DecisionModel"]
