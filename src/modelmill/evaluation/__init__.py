"""Metrics with confidence, baselines, latency and plots."""
