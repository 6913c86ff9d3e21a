"""Syncs Klaviyo accounts into Postgres with Dagster. Your own project can import the names in `__all__`.

`docs/library.md` describes these public names; everything else may change. Importing this package builds nothing and
reads no environment variables. Each name is loaded at its first use, because importing Dagster takes a second.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from klaviyo_pipeline.config.settings import Account
    from klaviyo_pipeline.orchestration.build import build_defs
    from klaviyo_pipeline.orchestration.component import KlaviyoAccountComponent
    from klaviyo_pipeline.orchestration.resources.klaviyo_resource import KlaviyoResource
    from klaviyo_pipeline.postgres.write.io_manager import PostgresIOManager

__all__ = ["Account", "KlaviyoAccountComponent", "KlaviyoResource", "PostgresIOManager", "build_defs"]

_MODULES = {
    "Account": "klaviyo_pipeline.config.settings",
    "KlaviyoAccountComponent": "klaviyo_pipeline.orchestration.component",
    "KlaviyoResource": "klaviyo_pipeline.orchestration.resources.klaviyo_resource",
    "PostgresIOManager": "klaviyo_pipeline.postgres.write.io_manager",
    "build_defs": "klaviyo_pipeline.orchestration.build",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    # `dg list components` looks for components among the names that `dir` returns.
    return sorted({*globals(), *_MODULES})
