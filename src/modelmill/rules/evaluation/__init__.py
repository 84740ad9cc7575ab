"""Evaluating a rule set on rows while some of its signals are not computed yet."""
