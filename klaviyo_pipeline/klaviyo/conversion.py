"""Which metric counts as a conversion, when nobody says so."""

from collections.abc import Sequence
from dataclasses import dataclass

from klaviyo_pipeline.klaviyo.client import KlaviyoClient
from klaviyo_pipeline.klaviyo.errors import NoConversionMetric
from klaviyo_pipeline.klaviyo.metrics import Metric

PLACED_ORDER = "Placed Order"

_SHOPS = frozenset({"shopify", "woocommerce", "magento", "magento 2", "bigcommerce", "prestashop", "wix"})


@dataclass(frozen=True)
class ConversionMetric:
    """`how` says in words how it was found; `name` is None where finding it did not tell."""

    id: str
    name: str | None
    how: str


def find_conversion_metric(client: KlaviyoClient, override: str | None) -> ConversionMetric:
    """The metric for conversions: the one named, else the mapped revenue metric, else "Placed Order".

    Several shops may each bring a "Placed Order": one of an e-commerce integration goes first, then the
    lowest id, so that the choice is the same every time. Raises `NoConversionMetric` if there is none.
    """
    if override:
        return ConversionMetric(override, None, "set by KLAVIYO_CONVERSION_METRIC_ID")
    mapped = client.mapped_metric("revenue")
    if mapped is not None:
        return ConversionMetric(mapped, None, "the account's mapped revenue metric")
    named = sorted((metric for metric in client.metrics() if metric.name == PLACED_ORDER), key=_rank)
    if not named:
        raise NoConversionMetric(
            f'The account maps no revenue metric and has none named "{PLACED_ORDER}". '
            "Set KLAVIYO_CONVERSION_METRIC_ID to the id of the metric that counts as a conversion."
        )
    return ConversionMetric(named[0].id, named[0].name, _told(named))


def _rank(metric: Metric) -> tuple[bool, str]:
    category = (metric.category or "").lower().replace("-", "").replace(" ", "")
    shop = (metric.integration or "").strip().lower() in _SHOPS or category == "ecommerce"
    return not shop, metric.id


def _told(named: Sequence[Metric]) -> str:
    chosen, others = named[0], ", ".join(metric.id for metric in named[1:])
    source = f" of {chosen.integration}" if chosen.integration else ""
    passed = f"; passed over, of the same name: {others}" if others else ""
    return f'named "{PLACED_ORDER}"{source}{passed}'
