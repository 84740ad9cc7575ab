"""The language of rules: SQL expressions over the values of one row, compiled for Arrow."""
