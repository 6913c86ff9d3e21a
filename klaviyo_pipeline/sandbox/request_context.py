"""One authenticated request, as the endpoints see it."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urlencode

from klaviyo_pipeline.sandbox.cursors import Cursors
from klaviyo_pipeline.sandbox.parameters import Query
from klaviyo_pipeline.sandbox.sandbox_account import SandboxAccount


@dataclass(frozen=True)
class Call:
    """`base` is scheme and host as the client wrote them, `path` the path below it, `now` the account's clock
    (UTC)."""

    account: SandboxAccount
    cursors: Cursors
    now: datetime
    operation: str
    base: str
    path: str
    query: Query
    id: str = ""
    content_type: str = ""
    body: bytes = b""

    @property
    def page_size(self) -> int:
        """What was asked for, or as much of it as the account has on a page."""
        return min(self.query.page_size, self.account.largest_page or self.query.page_size)

    def url(self, path: str) -> str:
        return f"{self.base}/api/{path}"

    def self_link(self) -> str:
        return self._link(list(self.query.pairs))

    def next_link(self, parameter: str, cursor: str | None) -> str | None:
        """This request with its cursor changed; None if there is no next page."""
        if cursor is None:
            return None
        kept = [(name, value) for name, value in self.query.pairs if name != parameter]
        return self._link([*kept, (parameter, cursor)])

    def question(self, *more: Hashable) -> Hashable:
        """What a cursor belongs to: the request without its place and its page size."""
        kept = [pair for pair in self.query.pairs if pair[0] not in ("page[cursor]", "page_cursor", "page[size]")]
        return self.operation, tuple(sorted(kept)), *more

    def _link(self, pairs: list[tuple[str, str]]) -> str:
        return f"{self.base}{self.path}" + (f"?{urlencode(pairs)}" if pairs else "")
