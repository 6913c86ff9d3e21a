"""Whether the clocks agree: ours, the database's and Klaviyo's.

Observations are timed by the database, and Klaviyo refuses to be asked about what lies ahead of its own clock.
"""

from __future__ import annotations

from datetime import timedelta

from klaviyo_pipeline.diagnosis.findings import Finding, ok, skipped, warning

CHECK = "clocks"
TOLERATED = timedelta(seconds=5)


def compare(*, database: timedelta | None, klaviyo: timedelta | None) -> Finding:
    """`database` and `klaviyo` are by how much their clocks go before ours, None if they told no time."""
    ahead = {"this machine": timedelta()}
    ahead |= {name: by for name, by in (("the database", database), ("Klaviyo", klaviyo)) if by is not None}
    if len(ahead) == 1:
        return skipped(CHECK, "neither the database nor Klaviyo told the time")
    first, last = max(ahead, key=ahead.__getitem__), min(ahead, key=ahead.__getitem__)
    apart = ahead[first] - ahead[last]
    if apart > TOLERATED:
        return warning(
            CHECK,
            f"{first} is {apart.total_seconds():.0f} s ahead of {last}",
            "set them by a time server (NTP): windows close, and observations are ordered, by these clocks",
        )
    names = list(ahead)
    return ok(CHECK, f"{', '.join(names[:-1])} and {names[-1]} agree within {TOLERATED.total_seconds():.0f} s")
