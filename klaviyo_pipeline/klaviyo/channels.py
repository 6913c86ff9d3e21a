"""The channel of a campaign, which its own resource does not tell.

A listing knows it, since each channel is listed on its own; a lookup by id has to read it off the
campaign's messages.
"""

from collections.abc import Mapping

# A campaign with messages in several channels takes the first of these.
CHANNELS = ("email", "sms", "mobile_push")


def first_channel(document: Mapping[str, object]) -> str | None:
    """The channel of a campaign's document with its messages included; None if they do not tell."""
    included = document.get("included")
    reported = {_channel(resource) for resource in included} if isinstance(included, list) else set()
    return next((channel for channel in CHANNELS if channel in reported), None)


def _channel(resource: object) -> str | None:
    if not isinstance(resource, Mapping) or resource.get("type") != "campaign-message":
        return None
    attributes = resource.get("attributes")
    if not isinstance(attributes, Mapping):
        return None
    definition = attributes.get("definition")
    places = (definition, attributes) if isinstance(definition, Mapping) else (attributes,)
    return next((place["channel"] for place in places if isinstance(place.get("channel"), str)), None)
