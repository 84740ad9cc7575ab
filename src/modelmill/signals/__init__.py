"""Signals: the named values of a row that rules read, and what computes them."""
