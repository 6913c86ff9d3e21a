"""The search for the statistics that Klaviyo rejects for a conversion metric."""

from collections.abc import Collection

import pytest

from klaviyo_pipeline.klaviyo.errors import ConversionMetricIneligible
from klaviyo_pipeline.klaviyo.refused_statistics import MOST_REQUESTS, most_statistics
from klaviyo_pipeline.klaviyo.reports import FLOW_SERIES

EVERY = frozenset(FLOW_SERIES.statistics)
VALUE = frozenset({"conversion_value", "revenue_per_recipient", "average_order_value", "text_message_roi"})


def found(
    refused: Collection[str], left_out: frozenset[str] = frozenset()
) -> tuple[frozenset[str], frozenset[str], int]:
    """The statistics of the answer, the statistics reported as missing, and the number of requests."""
    requested: list[frozenset[str]] = []

    def ask(without: frozenset[str]) -> frozenset[str]:
        requested.append(EVERY - without)
        if requested[-1].intersection(refused):
            raise ConversionMetricIneligible("refused")
        return requested[-1]

    given, lacking = most_statistics(FLOW_SERIES, left_out, ask)
    assert len(set(requested)) == len(requested)
    return given, lacking, len(requested)


def test_a_metric_with_all_statistics_costs_one_request() -> None:
    assert found(set()) == (EVERY, frozenset(), 1)


@pytest.mark.parametrize("refused", [{"conversion_value"}, {"average_order_value"}, VALUE])
def test_a_metric_without_values_costs_two_requests_and_has_all_counts(refused: Collection[str]) -> None:
    assert found(refused) == (EVERY - VALUE, VALUE, 2)


def test_statistics_that_are_known_to_be_rejected_are_not_requested() -> None:
    assert found({"conversion_value"}, frozenset(VALUE)) == (EVERY - VALUE, VALUE, 1)


@pytest.mark.parametrize("also", ["conversions", "conversion_uniques", "conversion_rate"])
def test_a_rejected_count_of_conversions_is_the_only_other_one_left_out(also: str) -> None:
    given, lacking, requests = found({"conversion_value", also})
    assert (given, lacking) == (EVERY - VALUE - {also}, VALUE | {also})
    assert requests <= MOST_REQUESTS


@pytest.mark.parametrize("odd", ["failed_rate", "delivered", "unsubscribe_uniques"])
def test_any_other_rejected_statistic_is_found_within_the_request_limit(odd: str) -> None:
    given, lacking, requests = found({odd})
    assert odd in lacking
    assert len(given) >= len(EVERY) / 2
    assert given | lacking == EVERY
    assert requests <= MOST_REQUESTS


def test_no_statistics_are_requested_twice_if_conversions_are_known_to_be_rejected() -> None:
    known = VALUE | frozenset(FLOW_SERIES.about_conversions)
    given, lacking, _ = found({"delivery_rate"}, known)
    assert given | lacking == EVERY
    assert lacking >= known | {"delivery_rate"}


def test_a_metric_without_statistics_is_an_error_after_four_requests() -> None:
    requested = 0

    def ask(without: frozenset[str]) -> None:
        nonlocal requested
        requested += 1
        raise ConversionMetricIneligible("refused")

    with pytest.raises(ConversionMetricIneligible):
        most_statistics(FLOW_SERIES, frozenset(), ask)
    assert requested == 4
