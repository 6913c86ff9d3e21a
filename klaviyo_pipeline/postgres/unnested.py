"""Python lists as the columns of a table in a query."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg


def unnested(name: str, /, **columns: tuple[sa.types.TypeEngine[Any], list[Any]]) -> sa.TableValuedAlias:
    """Return a table made of lists of the same length. Each column is given as its type and its values."""
    arrays = [
        sa.bindparam(f"{name}_{column}", values, type_=pg.ARRAY(kind)) for column, (kind, values) in columns.items()
    ]
    typed = [sa.column(column, kind) for column, (kind, _) in columns.items()]
    return sa.func.unnest(*arrays).table_valued(*typed).render_derived(name=name)
