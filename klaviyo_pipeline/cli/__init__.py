"""The command line, `klaviyo-pipeline`. Every command has `--help`, and prints an error as one line."""

from klaviyo_pipeline.cli.main import main

__all__ = ["main"]
