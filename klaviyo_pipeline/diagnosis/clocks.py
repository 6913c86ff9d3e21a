"""Compares three clocks: this machine's, the database's and Klaviyo's.

Observation times are taken from the database's clock. Klaviyo rejects a filter with a time that is ahead of its
own clock.
"""

from __future__ import annotations

from datetime import timedelta

from klaviyo_pipeline.diagnosis.findings import Finding, ok, skipped, warning

CHECK = "clocks"
TOLERATED = timedelta(seconds=5)


def compare(*, database: timedelta | None, klaviyo: timedelta | None) -> Finding:
    """Compare the clocks. `database` and `klaviyo` are how far each is ahead of this machine's; None if not known."""
    ahead = {"this machine": timedelta()}
    ahead |= {name: by for name, by in (("the database", database), ("Klaviyo", klaviyo)) if by is not None}
    if len(ahead) == 1:
        return skipped(CHECK, "the times of the database and of Klaviyo are not known")
    first, last = max(ahead, key=ahead.__getitem__), min(ahead, key=ahead.__getitem__)
    apart = ahead[first] - ahead[last]
    if apart > TOLERATED:
        return warning(
            CHECK,
            f"{first} is {apart.total_seconds():.0f} s ahead of {last}",
            "synchronize the clocks with NTP; they decide when a window closes and which observation is the latest",
        )
    names = list(ahead)
    return ok(CHECK, f"{', '.join(names[:-1])} and {names[-1]} agree within {TOLERATED.total_seconds():.0f} s")
