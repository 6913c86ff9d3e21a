"""A code location without `dg`: your definitions in Python, merged with those of a Klaviyo account."""

import os
from collections.abc import Iterator
from datetime import date

import dagster as dg
import pandas as pd

from klaviyo_pipeline import Account, KlaviyoResource, PostgresIOManager, build_defs

SHOP = Account(
    slug="shop_de",
    api_key=dg.EnvVar("KLAVIYO_API_KEY_SHOP_DE"),
    database_url=dg.EnvVar("WAREHOUSE_URL"),
    api_url=os.environ.get("KLAVIYO_API_URL", "https://a.klaviyo.com"),
    timezone="Europe/Berlin",
    start_date=date(2025, 3, 1),
    migrate=True,
)


@dg.asset(
    key=["tracking", "klaviyo_metrics"],
    io_manager_key="tables",
    metadata={"primary_key": "id"},
)
def klaviyo_metrics(klaviyo: KlaviyoResource) -> pd.DataFrame:
    """Every metric of the account, read with `KlaviyoResource` in your own asset."""

    def rows() -> Iterator[dict[str, object]]:
        with klaviyo.client(SHOP) as client:
            for metric in client.metrics():
                yield {"id": metric.id, "name": metric.name, "integration": metric.integration}

    return pd.DataFrame(list(rows()), columns=["id", "name", "integration"], dtype="string")


# Dagster loads a module only if it has exactly one `Definitions` at the top level.
defs = dg.Definitions.merge(
    dg.Definitions(
        assets=[klaviyo_metrics],
        resources={
            "klaviyo": KlaviyoResource(),
            "tables": PostgresIOManager(database_url=dg.EnvVar("WAREHOUSE_URL")),
            # Your own resources may have any name. They do not clash with the resources of `build_defs`.
            "postgres": dg.ResourceDefinition.hardcoded_resource("mine"),
        },
    ),
    build_defs([SHOP], checks=False, sensors=False),
)
