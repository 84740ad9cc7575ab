"""Datasets made of Delta tables: checked, deduplicated, split."""
