"""Cheap models that are asked before the models of a rule set."""
