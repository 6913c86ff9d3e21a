"""The command line, `klaviyo-pipeline`. Every command has `--help`, and prints an error as one line."""

from klaviyo_pipeline.dagster_internals.gc_tuning import gc_frozen

with gc_frozen():
    from klaviyo_pipeline.cli.main import main

__all__ = ["main"]
