from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest

from klaviyo_pipeline.sandbox.sandbox_account import SandboxAccount, SandboxObject, State

NOW = datetime(2026, 3, 10, tzinfo=UTC)


def test_put_sets_what_is_given_and_nothing_else() -> None:
    account = SandboxAccount(clock=lambda: NOW)
    account.put("flows", "F", name="a", updated="2026-01-01T00:00:00+00:00")
    account.put("flows", "F", status="live")
    assert account.objects["flows"]["F"].attributes == {
        "name": "a",
        "status": "live",
        "archived": False,
        "created": None,
        "updated": "2026-01-01T00:00:00+00:00",
        "trigger_type": None,
    }


def test_put_keeps_channels_and_tags_off_the_attributes() -> None:
    account = SandboxAccount(clock=lambda: NOW)
    put = account.put("campaigns", "C", channels=["sms"], tags=["T"])
    account.put("campaigns", "C", name="later")
    assert (put.channels, put.tags) == (["sms"], ["T"])
    assert not {"channels", "tags"} & put.attributes.keys()


def test_an_object_has_the_state_of_the_clock() -> None:
    grown = SandboxObject("F", [State(NOW, {"name": "old"}), State(NOW + timedelta(days=1), {"name": "new"})])
    assert grown.at(NOW - timedelta(seconds=1)) is None
    assert grown.at(NOW) == {"name": "old"}
    assert grown.at(NOW + timedelta(days=1)) == {"name": "new"}


def test_put_pins_an_object_to_its_present_state() -> None:
    account = SandboxAccount(clock=lambda: NOW)
    states = [State(NOW, {"name": "old", "status": "live"}), State(NOW + timedelta(days=1), {"name": "new"})]
    account.objects["flows"]["F"] = SandboxObject("F", states)
    pinned = account.put("flows", "F", status="draft")
    assert pinned.at(NOW + timedelta(days=9)) == {"name": "old", "status": "draft"}


@pytest.mark.parametrize("entity", ["forms", "segments"])
def test_only_flows_and_campaigns_can_be_archived(entity: str) -> None:
    account = SandboxAccount()
    account.put(entity, "X")
    with pytest.raises(ValueError, match="cannot be archived"):
        account.archive(entity, "X")


def test_what_is_not_there_can_be_neither_archived_nor_deleted() -> None:
    with pytest.raises(KeyError, match="no such object"):
        SandboxAccount().archive("flows", "X")
    with pytest.raises(KeyError, match="no such object"):
        SandboxAccount().delete("flows", "X")


def test_values_are_set_as_counts_of_a_known_report() -> None:
    account = SandboxAccount()
    with pytest.raises(ValueError, match="open_rate"):
        account.set_figures("flow_series", {"flow_id": "F"}, date(2026, 1, 1), {"open_rate": 0.5})
    with pytest.raises(ValueError, match="no such report"):
        account.set_figures("lists", {}, date(2026, 1, 1), {})
