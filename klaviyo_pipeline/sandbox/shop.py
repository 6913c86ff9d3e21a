"""The names, tags and metrics of the generated shop."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

from klaviyo_pipeline.sandbox.sandbox_account import MappedMetric, Metric

_ALPHABET = "ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnpqrstuvwxyz23456789"
_OPENED = datetime(2023, 11, 6, 15, 4, 5, tzinfo=UTC)

# The name and trigger type of each flow.
FLOW_NAMES = (
    ("Welcome Series", "Added to List"),
    ("Abandoned Cart", "Metric"),
    ("Browse Abandonment", "Metric"),
    ("Post-Purchase Thank You", "Metric"),
    ("Winback 90 Days", "Metric"),
    ("Birthday Treat", "Date Based"),
    ("VIP Early Access", "Added to List"),
    ("Back in Stock Alert", "Low Inventory"),
    ("Price Drop Alert", "Price Drop"),
    ("Review Request", "Metric"),
    ("Sunset Unengaged", "Added to List"),
    ("Replenishment Reminder", "Metric"),
    ("First Purchase Anniversary", "Date Based"),
    ("Checkout Started Nudge", "Metric"),
    ("Loyalty Tier Reached", "Metric"),
    ("Untitled Flow", "Unconfigured"),
)
CAMPAIGN_NAMES = (
    "New Arrivals",
    "Weekend Sale",
    "Staff Picks",
    "Last Chance",
    "Free Shipping",
    "Lookbook",
    "Restock",
    "Members Only",
    "Gift Guide",
    "Flash Sale",
)
FORM_NAMES = ("Exit Intent 10% Off", "Footer Signup", "SMS Opt-In", "Quiz", "Spin to Win", "Early Access")
SEGMENT_NAMES = (
    "Engaged 30 Days",
    "Engaged 90 Days",
    "VIP Customers",
    "Churn Risk",
    "Never Purchased",
    "Repeat Buyers",
    "High AOV",
    "SMS Subscribers",
    "Cart Abandoners",
)
LIST_NAMES = ("Newsletter", "SMS Subscribers", "Early Access", "Wholesale", "Event Guests")
MESSAGE_NAMES = ("Hello there", "A little reminder", "Still thinking?", "Last call", "Thank you", "A gift")
TAGS = {
    "5f2c1f3e-1111-4000-8000-000000000001": "evergreen",
    "5f2c1f3e-1111-4000-8000-000000000002": "seasonal",
    "5f2c1f3e-1111-4000-8000-000000000003": "Q4 🎁",
}

EDGE_CASE_NAMES = (
    "Thank you 🎉💌 naïve café — 日本語",
    "It's \"quoted\", with \\ and ' and ; -- DROP",
    "A very long name " * 60,
    "tab\tand\nnew line, and  two spaces ",
    "",
)


def made_id(seed: int, what: str, number: int, length: int = 6) -> str:
    """An id that looks like Klaviyo's. The same arguments always give the same id."""
    digest = hashlib.blake2b(f"{seed}:{what}:{number}".encode(), digest_size=length).digest()
    return "".join(_ALPHABET[byte % len(_ALPHABET)] for byte in digest)


def made_hex(seed: int, what: str, number: int) -> str:
    """An id of 32 hexadecimal digits, like the ids of audiences and variations."""
    return hashlib.blake2b(f"{seed}:{what}:{number}".encode(), digest_size=16).hexdigest()


def metrics() -> dict[str, Metric]:
    """The shop's metrics by id. "Placed Order" occurs twice. Those of Klaviyo itself cannot be conversion metrics."""
    declared = (
        Metric("RPlacd", "Placed Order", "Shopify", "eCommerce", _OPENED, carries_value=True),
        Metric("SPlacd", "Placed Order", "API", "API", _OPENED, carries_value=True),
        Metric("RChkot", "Started Checkout", "Shopify", "eCommerce", _OPENED, per_order=2),
        Metric("RViewd", "Viewed Product", "Shopify", "eCommerce", _OPENED, per_order=9),
        Metric("RCartd", "Added to Cart", "Shopify", "eCommerce", _OPENED, per_order=3),
        Metric("ROpend", "Opened Email", "Klaviyo", "Internal", _OPENED, eligible=False),
        Metric("RClckd", "Clicked Email", "Klaviyo", "Internal", _OPENED, eligible=False),
        Metric("RTextd", "Received Text Message", "Klaviyo", "Internal", _OPENED, eligible=False),
    )
    return {metric.id: metric for metric in declared}


def mapped_metrics() -> dict[str, MappedMetric]:
    return {
        "revenue": MappedMetric(_OPENED, metric_id="RPlacd"),
        "started_checkout": MappedMetric(_OPENED, metric_id="RChkot"),
        "viewed_product": MappedMetric(_OPENED, metric_id="RViewd"),
        "added_to_cart": MappedMetric(_OPENED, metric_id="RCartd"),
        "ordered_product": MappedMetric(_OPENED, custom_metric_id="925e385b52fb405715f3616c337cc65c"),
        "refunded_sales": MappedMetric(_OPENED),
        "cancelled_sales": MappedMetric(_OPENED),
    }
