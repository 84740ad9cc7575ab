"""Drift of scored rows, and quality on labels that arrive later."""
