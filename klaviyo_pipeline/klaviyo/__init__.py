"""Klaviyo's API: the client, its pacing and errors, and the listings and reports as data.

What belongs here is what a reader of Klaviyo's own documentation would look for. Nothing here knows
Dagster, Postgres or pandas: a client gives records and pages, and somebody else decides where they go.
"""
