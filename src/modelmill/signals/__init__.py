"""Signals: what a rule set knows of a row, and what computes it."""
