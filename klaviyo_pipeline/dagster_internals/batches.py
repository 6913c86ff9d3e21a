"""Finds out how an instance stores events, without importing `event_log`, which needs the extra `ui`."""

from dagster import DagsterInstance


def stores_batches(instance: DagsterInstance) -> bool:
    """Whether the instance stores the events of many windows or checks in one statement."""
    return getattr(instance.event_log_storage, "stores_batches", False)
