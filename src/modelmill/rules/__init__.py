"""Rules: SQL expressions over columns, checked before they run and evaluated over Arrow batches."""
