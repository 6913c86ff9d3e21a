"""The statistics of the reports: the counts, and the rates that are computed from them."""

from __future__ import annotations

from typing import Final

_SEND_SUMS = (
    "bounced",
    "bounced_or_failed",
    "clicks",
    "conversion_value",
    "conversions",
    "delivered",
    "failed",
    "message_segment_count_sum",
    "opens",
    "recipients",
    "spam_complaints",
    "text_message_credit_usage_amount",
    "text_message_spend",
    "unsubscribes",
)
_SEND_UNIQUES = ("clicks_unique", "conversion_uniques", "opens_unique", "unsubscribe_uniques")
_FORM_SUMS = (
    "closed_form",
    "qualified_form",
    "submits",
    "submitted_form_step",
    "viewed_form",
    "viewed_form_step",
)
_FORM_UNIQUES = (
    "closed_form_uniques",
    "qualified_form_uniques",
    "submitted_form_step_uniques",
    "viewed_form_step_uniques",
    "viewed_form_uniques",
)
_SEGMENT_SUMS = ("members_added", "members_removed")

UNIQUES: Final = frozenset(_SEND_UNIQUES + _FORM_UNIQUES)

# The counts per group and day, by kind of report. `total_members` is a level, not a sum. No report contains orders.
COUNTS: Final[dict[str, tuple[str, ...]]] = {
    "flow": _SEND_SUMS + _SEND_UNIQUES,
    "campaign": _SEND_SUMS + _SEND_UNIQUES,
    "form": _FORM_SUMS + _FORM_UNIQUES,
    "segment": (*_SEGMENT_SUMS, "total_members"),
    "order": ("conversions", "conversion_uniques", "conversion_value"),
}

_SEND_RATES = {
    "average_order_value": ("conversion_value", "conversions"),
    "bounce_rate": ("bounced", "recipients"),
    "bounced_or_failed_rate": ("bounced_or_failed", "recipients"),
    "click_rate": ("clicks_unique", "delivered"),
    "click_to_open_rate": ("clicks_unique", "opens_unique"),
    "conversion_rate": ("conversion_uniques", "delivered"),
    "delivery_rate": ("delivered", "recipients"),
    "failed_rate": ("failed", "recipients"),
    "open_rate": ("opens_unique", "delivered"),
    "revenue_per_recipient": ("conversion_value", "delivered"),
    "spam_complaint_rate": ("spam_complaints", "delivered"),
    "text_message_roi": ("conversion_value", "text_message_spend"),
    "unsubscribe_rate": ("unsubscribe_uniques", "delivered"),
}

# The dividend and divisor of each rate, by kind of report. A rate whose divisor is 0 is 0.
RATES: Final[dict[str, dict[str, tuple[str, str]]]] = {
    "flow": _SEND_RATES,
    "campaign": _SEND_RATES,
    "form": {"submit_rate": ("submits", "viewed_form")},
    "segment": {},
    "order": {},
}

STATISTICS: Final[dict[str, tuple[str, ...]]] = {
    kind: tuple(sorted((*COUNTS[kind], *RATES[kind], *(("net_members_changed",) if kind == "segment" else ()))))
    for kind in COUNTS
}
