"""The synced account of the check tests, for the command `check`."""

from klaviyo_pipeline_tests.orchestration.checks.conftest import stored, synced  # noqa: F401 - fixtures
