"""Metrics with confidence intervals, baselines, latency, reports."""
