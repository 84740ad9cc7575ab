"""Datasets made of Delta tables: checked, deduplicated, split; and their rows as examples."""
