"""Page cursors. A cursor is the position after the last returned row, for one account and one query.

The cursors of listings have Klaviyo's format: base64 of `next::` and the fields and values of the last row.
"""

from __future__ import annotations

import base64
import hashlib
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from datetime import datetime

from klaviyo_pipeline.sandbox.api_errors import bad_cursor
from klaviyo_pipeline.sandbox.sandbox_account import SandboxAccount

_KEPT = 50_000


@dataclass(frozen=True)
class _Place:
    after: object
    issued_at: datetime


class Cursors:
    """The cursors that one server has issued.

    The same position in the same query always has the same cursor.
    """

    def __init__(self) -> None:
        self._places: OrderedDict[tuple[str, Hashable, str], _Place] = OrderedDict()

    def issue(self, account: SandboxAccount, question: Hashable, after: object, text: str | None = None) -> str:
        """A cursor of the query `question` at the position `after`. It encodes `text`; without a text it is opaque."""
        if text is None:
            named = repr((account.id, question, after))
            token = hashlib.blake2b(named.encode("utf-8", "surrogatepass"), digest_size=24).digest()
        else:
            token = text.encode("utf-8", "surrogatepass")
        cursor = base64.urlsafe_b64encode(token).decode()
        self._places[account.id, question, cursor] = _Place(after, account.clock())
        while len(self._places) > _KEPT:
            self._places.popitem(last=False)
        return cursor

    def redeem(self, account: SandboxAccount, question: Hashable, token: str, parameter: str) -> object:
        """The position `after` of a cursor.

        Raises `ApiError` 400 for a cursor that is unknown, expired or from another query.
        """
        place = self._places.get((account.id, question, token))
        if place is None:
            raise bad_cursor(parameter)
        void_before = account.cursors_void_before
        if void_before is not None and place.issued_at <= void_before:
            raise bad_cursor(parameter)
        if account.clock() - place.issued_at > account.cursor_lifetime:
            raise bad_cursor(parameter)
        return place.after
