"""Pagination by position.

A cursor points after the last returned row. A row that changes between two requests can therefore move to another page,
as in a real account.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Hashable, Sequence
from typing import Any, TypeVar

from klaviyo_pipeline.sandbox.request_context import Call

Row = TypeVar("Row")
Place = tuple[Any, ...]


def cut_page(
    call: Call,
    parameter: str,
    rows: Sequence[Row],
    place: Callable[[Row], Place],
    *,
    size: int,
    descending: bool = False,
    question: Hashable = None,
    text: Callable[[Row], str] | None = None,
    repeats: bool = False,
) -> tuple[list[Row], str | None]:
    """The rows of the requested page, in the order of `place`, and the next cursor.

    A cursor encodes `text` of the last row. If several rows share the place of the last row, the next page omits them,
    or repeats them with `repeats`. Raises `ApiError` 400 for a cursor that was not issued for this query.
    """
    requested = call.question(question)
    ordered = sorted(rows, key=place, reverse=descending)
    if call.query.cursor is not None:
        after: Any = call.cursors.redeem(call.account, requested, call.query.cursor, parameter)
        places = {True: operator.lt, False: operator.gt}
        ordered = [row for row in ordered if places[descending](place(row), after) or (repeats and place(row) == after)]
    page = ordered[:size]
    if len(ordered) <= size:
        return page, None
    return page, call.cursors.issue(call.account, requested, place(page[-1]), text and text(page[-1]))


def collection_links(call: Call, parameter: str, cursor: str | None) -> dict[str, str | None]:
    """The links of a page. `next` is null on the last page, as in recordings; the description says it is a string."""
    return {"self": call.self_link(), "next": call.next_link(parameter, cursor), "prev": None}
