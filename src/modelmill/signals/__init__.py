"""Signals: the named values of a row that rules read, and what computes them."""

EXTENSIONS = ("modelmill.measures", "modelmill.signals")
"""Entry points by which other distributions add code that decides: see :mod:`modelmill.signals.measures` and
:mod:`modelmill.signals.registry`."""
