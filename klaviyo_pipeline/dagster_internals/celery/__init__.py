"""Executes runs on Celery workers on other machines. Only the files in `deploy/` refer to this package."""
