"""Reports with more groupings: by variation of an A/B test, by list or segment, and by version of a form.

Their requests count toward the same daily quota as those of the report without these groupings. Klaviyo does not
document what it returns for messages without a test, so the variation of a row may be empty.
"""

from __future__ import annotations

from dataclasses import replace

from klaviyo_pipeline.klaviyo.reports import CAMPAIGN_VALUES, FLOW_SERIES, FORM_SERIES

_VARIATION = ("variation", "variation_name")
_GROUP = {"group_id": "group", "group_name": "group_name"}

FLOW_BY_VARIATION = replace(
    FLOW_SERIES,
    name="flow series by variation",
    keys=(*FLOW_SERIES.keys, *_VARIATION),
    group_by=(*FLOW_SERIES.group_by, *_VARIATION),
    may_be_empty=frozenset(_VARIATION),
)

CAMPAIGN_BY_VARIATION = replace(
    CAMPAIGN_VALUES,
    name="campaign values by variation",
    keys=(*CAMPAIGN_VALUES.keys, *_VARIATION),
    group_by=(*CAMPAIGN_VALUES.group_by, *_VARIATION),
    may_be_empty=frozenset(_VARIATION),
)

CAMPAIGN_BY_AUDIENCE = replace(
    CAMPAIGN_VALUES,
    name="campaign values by audience",
    keys=(*CAMPAIGN_VALUES.keys, *_GROUP),
    group_by=(*CAMPAIGN_VALUES.group_by, *_GROUP.values()),
    groupings=_GROUP,
    may_be_empty=frozenset(_GROUP),
)

FORM_BY_VERSION = replace(
    FORM_SERIES,
    name="form series by version",
    keys=(*FORM_SERIES.keys, "form_version_id"),
    group_by=(*FORM_SERIES.group_by, "form_version_id"),
)
