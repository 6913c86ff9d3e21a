"""The modules that a run's fork server has loaded before the processes of steps are forked from it."""

import subprocess
import sys

from klaviyo_pipeline.dagster_internals.run_executor import PRELOADED

LOADS = """
import importlib, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
missing = {"dagster_postgres.event_log", "psycopg2.extras", "httpcore", "h11", "alembic"} - set(sys.modules)
assert not missing, missing
"""


def test_steps_are_forked_from_a_process_that_has_loaded_the_storage_and_the_client() -> None:
    subprocess.run([sys.executable, "-c", LOADS, *PRELOADED], check=True)
