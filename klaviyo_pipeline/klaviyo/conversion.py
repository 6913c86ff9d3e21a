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
    """`how` says in words how it was found; `name` is None where finding it did not tell.

    `counts` is False for a metric that only fills the report's required field: the account has none that counts as
    a conversion, and the figures about conversions are not to be kept.
    """

    id: str
    name: str | None
    how: str
    counts: bool = True


def find_conversion_metric(
    client: KlaviyoClient, override: str | None, passed_over: frozenset[str] = frozenset()
) -> ConversionMetric:
    """The metric for conversions: the one named, else the account's mapped revenue metric, else "Placed Order".

    `passed_over` holds metrics that Klaviyo gives no figures at all for; one that has counts and no values is chosen
    all the same. Several shops may each bring a "Placed Order": one of an e-commerce integration goes first, then the
    lowest id, so that the choice is the same every time. An account with none of these still has reports, without
    figures about conversions. Raises `NoConversionMetric` if it has no metric at all: a report cannot be asked without
    one.
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
            "no metric counts as a conversion here, so figures about conversions are left out; set "
            "KLAVIYO_CONVERSION_METRIC_ID to have them",
            counts=False,
        )
    raise NoConversionMetric(
        f'The account maps no revenue metric and has none named "{PLACED_ORDER}", nor any other that Klaviyo computes '
        "reports for. Set KLAVIYO_CONVERSION_METRIC_ID to the id of the metric that counts as a conversion."
    )


def _rank(metric: Metric) -> tuple[bool, str]:
    category = (metric.category or "").lower().replace("-", "").replace(" ", "")
    shop = (metric.integration or "").strip().lower() in _SHOPS or category == "ecommerce"
    return not shop, metric.id


def _description(named: Sequence[Metric]) -> str:
    chosen, others = named[0], ", ".join(metric.id for metric in named[1:])
    source = f" of {chosen.integration}" if chosen.integration else ""
    passed = f"; passed over, of the same name: {others}" if others else ""
    return f'named "{PLACED_ORDER}"{source}{passed}'
