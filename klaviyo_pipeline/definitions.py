"""The code location that Dagster loads, with the definitions of all accounts of this installation."""

from klaviyo_pipeline.orchestration.build import installation_defs

defs = installation_defs()
