"""Klaviyo's API: the client, its pacing and errors, and the listings and reports as data.

This package does not depend on Dagster, Postgres or pandas: the client returns records and pages, and its callers
decide where to store them.
"""
