"""Spark applications: each module has a main(argv)."""
