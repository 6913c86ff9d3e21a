"""Chooses the conversion metric if no setting names one."""

from collections.abc import Sequence
from dataclasses import dataclass

from klaviyo_pipeline.klaviyo.client import KlaviyoClient
from klaviyo_pipeline.klaviyo.errors import NoConversionMetric
from klaviyo_pipeline.klaviyo.metrics import Metric

PLACED_ORDER = "Placed Order"

_SHOPS = frozenset({"shopify", "woocommerce", "magento", "magento 2", "bigcommerce", "prestashop", "wix"})


@dataclass(frozen=True)
class ConversionMetric:
    """The metric to use in reports. `how` describes how it was chosen. `name` is None if it is unknown.

    `counts` is False if the account has no metric that counts as a conversion. This metric then only fills a required
    field of the request, and the statistics about conversions must not be stored.
    """

    id: str
    name: str | None
    how: str
    counts: bool = True


def find_conversion_metric(
    client: KlaviyoClient, override: str | None, passed_over: frozenset[str] = frozenset()
) -> ConversionMetric:
    """The conversion metric: `override` if set, else the account's mapped revenue metric, else "Placed Order".

    Metrics in `passed_over` are never chosen, except by `override`: Klaviyo returns no statistics at all for them. If
    several metrics are named "Placed Order", those of an e-commerce integration come first, and of these the one with
    the lowest id, so that the choice is always the same.

    If no metric is named "Placed Order" either, the first of all metrics in the same order is returned, with `counts`
    False: the request of a report requires a metric. Raises `NoConversionMetric` if the account has no metric outside
    `passed_over`.
    """
    if override:
        return ConversionMetric(override, None, "set by KLAVIYO_CONVERSION_METRIC_ID")
    mapped = client.mapped_metric("revenue")
    if mapped is not None and mapped not in passed_over:
        return ConversionMetric(mapped, None, "the account's mapped revenue metric")
    metrics = sorted((metric for metric in client.metrics() if metric.id not in passed_over), key=_rank)
    named = [metric for metric in metrics if metric.name == PLACED_ORDER]
    if named:
        return ConversionMetric(named[0].id, named[0].name, _description(named))
    if metrics:
        return ConversionMetric(
            metrics[0].id,
            metrics[0].name,
            "the account has no metric that counts as a conversion, so statistics about conversions are left out; to "
            "sync them, set KLAVIYO_CONVERSION_METRIC_ID to the id of a metric",
            counts=False,
        )
    raise NoConversionMetric(
        f'The account has no revenue metric, no metric named "{PLACED_ORDER}", and no other metric that works in '
        "reports. Set KLAVIYO_CONVERSION_METRIC_ID to the id of the metric that counts as a conversion."
    )


def _rank(metric: Metric) -> tuple[bool, str]:
    category = (metric.category or "").lower().replace("-", "").replace(" ", "")
    shop = (metric.integration or "").strip().lower() in _SHOPS or category == "ecommerce"
    return not shop, metric.id


def _description(named: Sequence[Metric]) -> str:
    chosen, others = named[0], ", ".join(metric.id for metric in named[1:])
    source = f" of {chosen.integration}" if chosen.integration else ""
    passed = f"; other metrics with this name: {others}" if others else ""
    return f'named "{PLACED_ORDER}"{source}{passed}'
