"""Quantisation and export to the serving runtime."""
