"""Pruning, quantisation, and the search for a model within a budget."""
