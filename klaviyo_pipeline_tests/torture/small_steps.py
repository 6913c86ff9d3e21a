"""Small batches and chunks, and no pauses between attempts: a sync of few objects has many events.

Every process of a killed sync imports this module, so it imports nothing that a sync does not need.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from klaviyo_pipeline import catalog
from klaviyo_pipeline.klaviyo.reports import LONGEST_SEND
from klaviyo_pipeline.klaviyo.retry import RetryPolicy
from klaviyo_pipeline.orchestration.assets import entity_assets
from klaviyo_pipeline.planning import chunks

SMALL_STEPS: tuple[tuple[Any, str, Any], ...] = (
    (RetryPolicy, "backoff", lambda self, attempt: 0.0),
    (entity_assets, "BATCH_ROWS", 6),
    (chunks, "SHORTEST_CHUNK", timedelta(days=3)),
    (catalog, "DAILY_CHUNK_DAYS", 2),
    (catalog, "VALUES_CHUNK_DAYS", 2 * LONGEST_SEND.days + 2),
)
"""Owner, attribute and value of each changed constant."""
