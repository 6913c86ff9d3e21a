"""The revisions of Klaviyo's API that this release supports.

Klaviyo supports a revision for one year, serves it as deprecated for a second year, and then retires it.
`klaviyo/listing_revisions.py` declares the differences between the revisions.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date


@dataclass(frozen=True)
class ApiRevision:
    """A revision. Its name is its date, such as `2026-10-15`."""

    name: str

    @property
    def deprecated_on(self) -> date:
        """The first day on which Klaviyo no longer fixes this revision."""
        return self._anniversary(1)

    @property
    def retires_on(self) -> date:
        """The first day on which Klaviyo no longer serves this revision."""
        return self._anniversary(2)

    def _anniversary(self, years: int) -> date:
        began = date.fromisoformat(self.name)
        return began.replace(year=began.year + years)


API_REVISIONS: dict[str, ApiRevision] = {name: ApiRevision(name) for name in ("2026-07-15", "2026-10-15")}
"""Every revision that this release supports, by name, oldest first."""

DEFAULT_REVISION = "2026-10-15"
