"""The type of a job, as `dg.define_asset_job` and `dg.job` return it."""

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

AccountJob = UnresolvedAssetJobDefinition | dg.JobDefinition
