"""Spark applications: a module named after each job, with main(request, spark)."""
