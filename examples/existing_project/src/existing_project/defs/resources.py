"""The resources of the project: its own, and the IO manager of klaviyo-pipeline for its own tables."""

import dagster as dg

from existing_project.postgres import Postgres
from klaviyo_pipeline import PostgresIOManager


@dg.definitions
def resources() -> dg.Definitions:
    url = dg.EnvVar("WAREHOUSE_URL")
    return dg.Definitions(resources={"postgres": Postgres(url=url), "tables": PostgresIOManager(database_url=url)})
