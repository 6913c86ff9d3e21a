"""Whether a project's instance has the event log of `event_log`, without its import, which needs the extra ui."""

from dagster import DagsterInstance


def stores_batches(instance: DagsterInstance) -> bool:
    """Whether the instance stores the events of many windows or checks in one statement."""
    return getattr(instance.event_log_storage, "stores_batches", False)
