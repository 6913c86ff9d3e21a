"""The code location that Dagster loads: the accounts of this installation."""

from klaviyo_pipeline.orchestration.build import installation_defs

defs = installation_defs()
