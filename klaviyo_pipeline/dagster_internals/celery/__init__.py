"""Runs on Celery workers of other machines. Only dagster.yaml refers to this package."""
