"""Which metric counts as a conversion."""

import pytest

from klaviyo_pipeline.klaviyo.conversion import find_conversion_metric
from klaviyo_pipeline.klaviyo.errors import NoConversionMetric

from .conftest import Bench
from .resources import page
from .scripted_server import Scripted, absent, ok

UNMAPPED_WITHOUT_RELATIONSHIPS = ok({"data": {"type": "mapped-metric", "id": "revenue", "attributes": {}}})
UNMAPPED = absent("mapped-metric", "revenue")


def metric(id: str, name: str, source: str | None = None, category: object = None) -> dict[str, object]:
    integration = None if source is None else {"name": source, "category": category}
    return {"type": "metric", "id": id, "attributes": {"name": name, "integration": integration}}


def test_a_named_metric_is_taken_without_asking(bench: Bench) -> None:
    found = find_conversion_metric(bench.client, "XYZ")
    assert (found.id, found.how) == ("XYZ", "set by KLAVIYO_CONVERSION_METRIC_ID")
    assert bench.server.requested == []


def test_the_mapped_revenue_metric_comes_first(bench: Bench) -> None:
    related = {"metric": {"data": {"type": "metric", "id": "REV"}}}
    bench.server.will(ok({"data": {"type": "mapped-metric", "id": "revenue", "relationships": related}}))
    found = find_conversion_metric(bench.client, None)
    assert (found.id, found.how) == ("REV", "the account's mapped revenue metric")


@pytest.mark.parametrize(
    "category", ["eCommerce", "ecommerce", {"name": "E-Commerce"}, {"id": 1, "category": "eCommerce"}]
)
def test_of_several_placed_orders_the_shop_s_is_taken(bench: Bench, category: object) -> None:
    bench.server.will(
        UNMAPPED,
        ok(
            page(
                metric("A1", "Placed Order", "API", "API"),
                metric("B2", "Placed Order", "Some Shop", category),
                metric("A0", "Viewed Product", "Shopify", "eCommerce"),
            )
        ),
    )
    found = find_conversion_metric(bench.client, None)
    assert (found.id, found.name) == ("B2", "Placed Order")
    assert "Some Shop" in found.how
    assert "A1" in found.how


@pytest.mark.parametrize("unmapped", [UNMAPPED, UNMAPPED_WITHOUT_RELATIONSHIPS], ids=["404", "no relationships"])
def test_revenue_that_is_not_mapped_leaves_the_choice_to_the_names(bench: Bench, unmapped: Scripted) -> None:
    application = {"object": "application", "name": "My Shop App", "category": {"id": 1, "category": "eCommerce"}}
    shop = {"type": "metric", "id": "ZZZ999", "attributes": {"name": "Placed Order", "integration": application}}
    bench.server.will(unmapped, ok(page(metric("AAA111", "Placed Order", "API", {"id": 2, "category": "API"}), shop)))
    assert find_conversion_metric(bench.client, None).id == "ZZZ999"


def test_of_equal_shops_the_lowest_id_is_taken_every_time(bench: Bench) -> None:
    orders = [metric("S2", "Placed Order", "Shopify"), metric("S1", "Placed Order", "WooCommerce")]
    bench.server.will(UNMAPPED, ok(page(*orders)), UNMAPPED, ok(page(*reversed(orders))))
    assert [find_conversion_metric(bench.client, None).id for _ in range(2)] == ["S1", "S1"]


def test_an_account_without_either_has_reports_without_conversions_and_reports_so(bench: Bench) -> None:
    bench.server.will(UNMAPPED, ok(page(metric("A", "Opened Email"))))
    found = find_conversion_metric(bench.client, None)
    assert (found.id, found.counts) == ("A", False)
    assert "KLAVIYO_CONVERSION_METRIC_ID" in found.how


def test_metrics_that_are_passed_over_leave_the_choice_to_the_next(bench: Bench) -> None:
    orders = [metric("S1", "Placed Order", "Shopify"), metric("S2", "Placed Order", "WooCommerce")]
    bench.server.will(UNMAPPED, ok(page(*orders)))
    assert find_conversion_metric(bench.client, None, frozenset({"S1"})).id == "S2"


def test_an_account_without_any_metric_reports_what_to_set(bench: Bench) -> None:
    bench.server.will(UNMAPPED, ok(page()))
    with pytest.raises(NoConversionMetric, match="KLAVIYO_CONVERSION_METRIC_ID"):
        find_conversion_metric(bench.client, None)
