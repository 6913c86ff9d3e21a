"""The channels of campaigns, with one name for each.

Klaviyo's answers have several names for the same channel: `mobile_push` in listings by channel, `push` in variations,
and `push-notification` in reports.
"""

from collections.abc import Iterable, Mapping

CHANNELS = ("email", "sms", "mobile_push", "whatsapp")
"""All channels. If a campaign has several, the first of them in this order is its main channel."""

LISTED_CHANNELS = CHANNELS[:3]
"""The channels for which revision 2026-07-15 can list campaigns."""

OTHER_WORDS = {"push": "mobile_push", "push-notification": "mobile_push", "mobile-push": "mobile_push"}
"""Klaviyo's other names of channels, each with the channel's name in `CHANNELS`."""


def channel_named(name: object) -> str | None:
    """The channel that has this name in Klaviyo's answers. An unknown name is returned unchanged.

    None if the name is empty or not a text.
    """
    return OTHER_WORDS.get(name, name) if isinstance(name, str) and name else None


def sorted_channels(names: Iterable[object]) -> list[str] | None:
    """The channels with these names, sorted and without repetitions; None if there are none."""
    return sorted({channel for name in names if (channel := channel_named(name)) is not None}) or None


def first_channel(channels: Iterable[str] | None) -> str | None:
    """The main channel of several: the first in the order of `CHANNELS`, or else the first by name."""
    named = sorted(channels or ())
    return next((channel for channel in CHANNELS if channel in named), named[0] if named else None)


def lookup_channel(document: Mapping[str, object]) -> str | None:
    """The main channel of the messages that a campaign's document includes; None if no message has a channel."""
    included = document.get("included")
    names = [_message_channel(one) for one in included] if isinstance(included, list) else []
    return first_channel(sorted_channels(names))


def _message_channel(resource: object) -> object:
    if not isinstance(resource, Mapping) or resource.get("type") != "campaign-message":
        return None
    attributes = resource.get("attributes")
    if not isinstance(attributes, Mapping):
        return None
    definition = attributes.get("definition")
    places = (definition, attributes) if isinstance(definition, Mapping) else (attributes,)
    return next((place["channel"] for place in places if isinstance(place.get("channel"), str)), None)
