"""The account that an API key belongs to."""

from collections.abc import Mapping
from dataclasses import dataclass

from klaviyo_pipeline.klaviyo.errors import MalformedAnswer


@dataclass(frozen=True)
class KlaviyoAccount:
    """`id` is Klaviyo's (the public key), `timezone` an IANA name: the zone of the reports' days."""

    id: str
    timezone: str
    currency: str | None
    organization: str | None
    test_account: bool


def read_account(resource: object) -> KlaviyoAccount:
    """The account of a resource; raises `MalformedAnswer` without an id or a time zone."""
    reported = resource if isinstance(resource, Mapping) else {}
    attributes = reported.get("attributes")
    attributes = attributes if isinstance(attributes, Mapping) else {}
    identifier, timezone = reported.get("id"), attributes.get("timezone")
    if not isinstance(identifier, str) or not isinstance(timezone, str):
        raise MalformedAnswer("The answer names no account with an id and a time zone.")
    contact = attributes.get("contact_information")
    return KlaviyoAccount(
        id=identifier,
        timezone=timezone,
        currency=_text(attributes, "preferred_currency"),
        organization=_text(contact, "organization_name") if isinstance(contact, Mapping) else None,
        test_account=attributes.get("test_account") is True,
    )


def _text(attributes: Mapping[str, object], name: str) -> str | None:
    value = attributes.get(name)
    return value if isinstance(value, str) else None
