"""The project's resources, with the IO manager of klaviyo-pipeline for the project's own tables."""

import dagster as dg

from existing_project.postgres import Postgres
from klaviyo_pipeline import PostgresIOManager


@dg.definitions
def resources() -> dg.Definitions:
    url = dg.EnvVar("WAREHOUSE_URL")
    return dg.Definitions(resources={"postgres": Postgres(url=url), "tables": PostgresIOManager(database_url=url)})
