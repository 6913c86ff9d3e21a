"""The channels of campaigns: one vocabulary for the three that Klaviyo's answers use.

Listings by channel write `mobile_push`, variations write `push`, reports write `push-notification`.
"""

from collections.abc import Iterable, Mapping

CHANNELS = ("email", "sms", "mobile_push", "whatsapp")
"""A campaign with messages in several channels takes the first of these."""

LISTED_CHANNELS = CHANNELS[:3]
"""The channels that revision 2026-07-15 lists campaigns by."""

OTHER_WORDS = {"push": "mobile_push", "push-notification": "mobile_push", "mobile-push": "mobile_push"}
"""The channel that each of Klaviyo's other words stands for."""


def channel_named(word: object) -> str | None:
    """The channel that Klaviyo's word stands for; an unknown word stands for itself. None if it is not text."""
    return OTHER_WORDS.get(word, word) if isinstance(word, str) and word else None


def sorted_channels(words: Iterable[object]) -> list[str] | None:
    """The channels that these words stand for, once each, sorted; None if there are none."""
    return sorted({channel for word in words if (channel := channel_named(word)) is not None}) or None


def first_channel(channels: Iterable[str] | None) -> str | None:
    """The channel that represents several: the first of `CHANNELS`, otherwise the first by name."""
    named = sorted(channels or ())
    return next((channel for channel in CHANNELS if channel in named), named[0] if named else None)


def lookup_channel(document: Mapping[str, object]) -> str | None:
    """The channel of a campaign's document that includes its messages; None if no message has a channel."""
    included = document.get("included")
    words = [_message_channel(one) for one in included] if isinstance(included, list) else []
    return first_channel(sorted_channels(words))


def _message_channel(resource: object) -> object:
    if not isinstance(resource, Mapping) or resource.get("type") != "campaign-message":
        return None
    attributes = resource.get("attributes")
    if not isinstance(attributes, Mapping):
        return None
    definition = attributes.get("definition")
    places = (definition, attributes) if isinstance(definition, Mapping) else (attributes,)
    return next((place["channel"] for place in places if isinstance(place.get("channel"), str)), None)
