"""The account that an API key belongs to."""

from collections.abc import Mapping
from dataclasses import dataclass

from klaviyo_pipeline.klaviyo.errors import MalformedAnswer


@dataclass(frozen=True)
class KlaviyoAccount:
    """A Klaviyo account. `id` is Klaviyo's id of the account, which is its public key.

    `timezone` is the IANA name of its time zone; the days of reports are in this zone.
    """

    id: str
    timezone: str
    currency: str | None
    organization: str | None
    test_account: bool


def read_account(resource: object) -> KlaviyoAccount:
    """The account in a resource. Raises `MalformedAnswer` if the id or the time zone is missing."""
    fields = resource if isinstance(resource, Mapping) else {}
    attributes = fields.get("attributes")
    attributes = attributes if isinstance(attributes, Mapping) else {}
    identifier, timezone = fields.get("id"), attributes.get("timezone")
    if not isinstance(identifier, str) or not isinstance(timezone, str):
        raise MalformedAnswer("The response contains no account with an id and a time zone.")
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
