"""The command line, `klaviyo-pipeline`: every command with `--help`, errors as one line, exit 0, 1 or 2."""

from klaviyo_pipeline.dagster_internals.gc_tuning import gc_frozen

with gc_frozen():
    from klaviyo_pipeline.cli.main import main

__all__ = ["main"]
