"""Runs on Celery workers of other machines. Only dagster.yaml names what is here."""
