"""Spark applications: each module that is named after a job has a main(request, spark)."""
