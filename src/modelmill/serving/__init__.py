"""Scoring tables, and the service that follows the champions."""
