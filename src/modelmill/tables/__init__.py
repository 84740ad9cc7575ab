"""Delta tables: read, written, watched, previewed."""
