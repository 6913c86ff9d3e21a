"""The traffic of the generated shop: the counts of one day, which depend only on the seed, the id and the day."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, timedelta

from klaviyo_pipeline.sandbox.daily_counts import UNIT, Counts, fractions

# Monday to Sunday.
_WEEK = (1.15, 1.1, 1.0, 1.05, 1.2, 0.8, 0.7)
_FIRST_SEGMENT_DAY = date(2023, 6, 1)


@dataclass(frozen=True)
class SendTraffic:
    """The sends of one message on each day from `first` to `last`, about `volume` a day."""

    seed: int
    id: str
    channel: str
    volume: float
    first: date
    last: date

    def __call__(self, day: date) -> Counts:
        if not self.first <= day <= self.last:
            return {}
        luck, opening, clicking, buying, basket, noise, trouble, texts = fractions(
            self.seed, self.id, day.isoformat(), count=8
        )
        recipients = int(self.volume * _WEEK[day.weekday()] * (0.6 + 0.8 * luck))
        if recipients == 0:
            return {}
        bounced = int(recipients * 0.02 * trouble)
        failed = int(recipients * 0.004 * trouble)
        delivered = recipients - bounced - failed
        opens_unique = int(delivered * (0.25 + 0.35 * opening)) if self.channel != "sms" else 0
        clicks_unique = int((opens_unique or delivered) * (0.03 + 0.12 * clicking))
        conversion_uniques = int(clicks_unique * 0.6 * buying)
        conversions = conversion_uniques + int(conversion_uniques * 0.2 * noise)
        unsubscribes = int(delivered * 0.01 * trouble)
        counts = {
            "recipients": recipients,
            "delivered": delivered,
            "bounced": bounced,
            "failed": failed,
            "bounced_or_failed": bounced + failed,
            "opens_unique": opens_unique,
            "opens": opens_unique + int(opens_unique * 0.7 * luck),
            "clicks_unique": clicks_unique,
            "clicks": clicks_unique + int(clicks_unique * 0.4 * luck),
            "conversion_uniques": conversion_uniques,
            "conversions": conversions,
            "unsubscribe_uniques": unsubscribes,
            "unsubscribes": unsubscribes + int(unsubscribes * noise),
            "spam_complaints": int(delivered * 0.002 * trouble),
        }
        whole = {name: value * UNIT for name, value in counts.items()}
        whole["conversion_value"] = conversions * int((30 + 90 * basket) * 100) * (UNIT // 100)
        if noise < 0.3 and whole["opens"]:
            whole["opens"] += int(noise * UNIT)
        return whole | (_text_costs(delivered, texts) if self.channel == "sms" else {})


def _text_costs(delivered: int, texts: float) -> dict[str, int]:
    parts = delivered + int(delivered * texts)
    return {
        "message_segment_count_sum": parts * UNIT,
        "text_message_credit_usage_amount": parts * UNIT,
        "text_message_spend": parts * UNIT // 100,
    }


@dataclass(frozen=True)
class FormTraffic:
    """The views and submits of one version of a form."""

    seed: int
    id: str
    volume: float
    first: date
    last: date

    def __call__(self, day: date) -> Counts:
        if not self.first <= day <= self.last:
            return {}
        luck, sending, closing, again = fractions(self.seed, self.id, day.isoformat(), count=4)
        viewed_uniques = int(self.volume * _WEEK[day.weekday()] * (0.5 + luck))
        viewed = viewed_uniques + int(viewed_uniques * 0.3 * again)
        submits = int(viewed_uniques * (0.02 + 0.1 * sending))
        closed_uniques = int((viewed_uniques - submits) * (0.5 + 0.4 * closing))
        counts = {
            "viewed_form": viewed,
            "viewed_form_uniques": viewed_uniques,
            "viewed_form_step": viewed + submits,
            "viewed_form_step_uniques": viewed_uniques,
            "submits": submits,
            "submitted_form_step": submits + int(submits * again),
            "submitted_form_step_uniques": submits,
            "qualified_form": viewed,
            "qualified_form_uniques": viewed_uniques,
            "closed_form": closed_uniques + int(closed_uniques * 0.1 * again),
            "closed_form_uniques": closed_uniques,
        }
        return {name: value * UNIT for name, value in counts.items()}


@dataclass(frozen=True)
class SegmentTraffic:
    """How many members join and leave a segment on each day, and how many there are at the end of the day."""

    seed: int
    id: str
    volume: float
    first: date
    _members: list[int] = field(default_factory=list, compare=False, repr=False)

    def __call__(self, day: date) -> Counts:
        if day < self.first or day < _FIRST_SEGMENT_DAY:
            return {}
        added, removed = self._moves(day)
        index = (day - self.first).days
        while len(self._members) <= index:
            joined, left = self._moves(self.first + timedelta(days=len(self._members)))
            self._members.append((self._members[-1] if self._members else 0) + joined - left)
        members = {"members_added": added, "members_removed": removed, "total_members": self._members[index]}
        return {name: value * UNIT for name, value in members.items()}

    def _moves(self, day: date) -> tuple[int, int]:
        """The numbers of joining and leaving members. The second never exceeds the first, so no count is negative."""
        joining, leaving = fractions(self.seed, self.id, day.isoformat(), count=2)
        joined = int(self.volume * _WEEK[day.weekday()] * joining)
        return joined, int(joined * leaving)
