"""The command `klaviyo-pipeline`. Every subcommand has a `--help` option and prints an error as one line."""

from klaviyo_pipeline.cli.main import main

__all__ = ["main"]
