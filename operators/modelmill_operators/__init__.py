"""Thin Airflow operators over modelmill."""
