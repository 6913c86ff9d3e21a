"""What somebody does with the examples, as a script: the test runs it in an environment that has only the wheel.

It fails with a traceback at the first step that goes wrong. It imports nothing of the tests.
"""

import importlib.util
import os
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import dagster as dg
import psycopg
from existing_project.definitions import defs as existing

FIRST, LAST = "2025-03-01", "2025-03-05"
RANGE = {"dagster/asset_partition_range_start": FIRST, "dagster/asset_partition_range_end": LAST}
SILENT = {"loggers": {"console": {"config": {"log_level": "ERROR"}}}}
BIN = Path(sys.executable).parent


def value(query: str) -> object:
    with psycopg.connect(os.environ["WAREHOUSE_URL"]) as connection:
        row = connection.execute(query).fetchone()
    return row and row[0]


def materialize(definitions: dg.Definitions, instance: dg.DagsterInstance, *keys: str, tags: dict[str, str]) -> None:
    job = definitions.resolve_implicit_global_asset_job_def()
    selection = [dg.AssetKey.from_user_string(key) for key in keys]
    result = job.execute_in_process(instance=instance, asset_selection=selection, tags=tags, run_config=SILENT)
    assert result.success


def command(*words: str, **variables: str) -> str:
    environment = os.environ | variables
    program = str(BIN / words[0])
    done = subprocess.run([program, *words[1:]], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def the_package() -> None:
    import klaviyo_pipeline
    from klaviyo_pipeline.dagster_internals import PRIVATE_NAMES

    assert [one.name for one in PRIVATE_NAMES if not one.exists] == []
    folder = Path(klaviyo_pipeline.__file__).parent
    assert (folder / "installed" / "sql" / "001_functions.sql").is_file()
    assert not (folder.parent / "klaviyo_pipeline_tests").exists()
    lacking = subprocess.run([BIN / "klaviyo-pipeline", "demo"], capture_output=True, text=True, check=False)
    assert lacking.returncode == 1
    assert "demo needs the extras embedded and sandbox and ui" in lacking.stderr, lacking.stderr
    assert lacking.stderr.count("\n") == 1


def the_commands_of_dg() -> None:
    assert "klaviyo_pipeline.KlaviyoAccountComponent" in command("dg", "list", "components", "--json")
    command("dg", "scaffold", "defs", "klaviyo_pipeline.KlaviyoAccountComponent", "shop_fr")
    written = Path("src/existing_project/defs/shop_fr/defs.yaml")
    assert "slug: shop_fr" in written.read_text()
    command("dg", "check", "yaml")
    written.unlink()
    written.parent.rmdir()


def the_definitions(definitions: dg.Definitions) -> None:
    repository = definitions.get_repository_def()
    keys = {key.to_user_string() for key in repository.asset_graph.get_all_asset_keys()}
    assert {"calendar", "shop_uk/flow_metrics", "marketing/shop_us/flow_metrics"} <= keys
    assert "marketing/shop_us/forms" not in keys
    us = repository.asset_graph.get(dg.AssetKey(["marketing", "shop_us", "flows"]))
    assert (us.group_name, us.owners, us.tags["region"]) == ("marketing", ["team:marketing"], "us")
    assert "shop_us_missing_windows" not in {sensor.name for sensor in repository.sensor_defs}
    assert not any(secret in repr(repository.get_top_level_resources()) for secret in ("pk_", "postgresql://"))


def the_runs(definitions: dg.Definitions, instance: dg.DagsterInstance) -> None:
    # The command uses the project's executor, which runs each step in its own process.
    words = ("dagster", "asset", "materialize", "-m", "existing_project.definitions")
    command(*words, "--select", 'key:"shop_uk/flows"', "--partition-range", f"{FIRST}...{LAST}")
    materialize(definitions, instance, "shop_uk/flow_report", "shop_uk/flow_metrics", tags=RANGE)
    materialize(definitions, instance, "marketing/shop_us/flows", tags=RANGE)
    materialize(definitions, instance, "finance/revenue_by_day", tags=RANGE)
    materialize(definitions, instance, "revenue_by_flow", "calendar", tags={})
    assert value("SELECT count(*) FROM shop_uk.flows") != 0
    assert value("SELECT count(*) FROM shop_us.sync_windows WHERE status = 'synced'") == 5
    assert value("SELECT count(*) FROM finance.revenue_by_day") == 5
    total = "SELECT sum(conversion_value) FROM shop_uk.flow_metrics"
    assert value("SELECT sum(revenue) FROM finance.revenue_by_day") == value(total) != 0
    assert value("SELECT sum(revenue) FROM finance.revenue_by_flow") == value(total)


def the_code_location_of_the_package() -> None:
    variables = {
        "KLAVIYO_ACCOUNT": "own",
        "KLAVIYO_API_KEY": os.environ["KLAVIYO_API_KEY_SHOP_UK"],
        "KLAVIYO_DATABASE_URL": os.environ["WAREHOUSE_URL"],
        "KLAVIYO_TIMEZONE": "Europe/London",
        "KLAVIYO_START_DATE": FIRST,
    }
    command("klaviyo-pipeline", "migrate", **variables)
    words = ("dagster", "asset", "materialize", "-m", "klaviyo_pipeline.definitions", "--select", 'key:"own/flows"')
    command(*words, "--partition-range", f"{FIRST}...{LAST}", **variables)
    assert value("SELECT count(*) FROM own.sync_windows WHERE status = 'synced'") == 5


def the_automation(definitions: dg.Definitions, instance: dg.DagsterInstance) -> None:
    repository = definitions.get_repository_def()
    moment = datetime(2025, 3, 5, 0, 10, tzinfo=ZoneInfo("Europe/London"))
    ticked = repository.get_schedule_def("shop_uk_entities_daily").evaluate_tick(
        dg.build_schedule_context(instance=instance, scheduled_execution_time=moment)
    )
    [request] = ticked.run_requests or []
    assert request.tags["dagster/asset_partition_range_end"] == "2025-03-05"
    sensor = repository.get_sensor_def("shop_uk_missing_windows")
    context = dg.build_sensor_context(
        instance=instance, definitions=definitions, resources=repository.get_top_level_resources()
    )
    requested = sensor.evaluate_tick(context).run_requests or []
    assert {request.job_name for request in requested} >= {"shop_uk_flows", "shop_uk_forms"}
    result = repository.get_job("shop_uk_checks").execute_in_process(
        instance=instance, raise_on_error=False, run_config=SILENT
    )
    assert len(result.get_asset_check_evaluations()) > 50


def the_python_definitions(folder: Path, instance: dg.DagsterInstance) -> None:
    # Dagster's own way of loading a file: it refuses, for example, a second object of definitions in it.
    command("dagster", "definitions", "validate", "-f", str(folder / "definitions.py"))
    spec = importlib.util.spec_from_file_location("python_definitions", folder / "definitions.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    materialize(module.defs, instance, "tracking/klaviyo_metrics", tags={})
    materialize(module.defs, instance, "shop_de/forms", tags=RANGE)
    assert value("SELECT count(*) FROM tracking.klaviyo_metrics") != 0
    assert value("SELECT count(*) FROM shop_de.sync_windows") == 5


if __name__ == "__main__":
    print("Dagster", dg.__version__)
    the_package()
    the_commands_of_dg()
    whole = existing()
    the_definitions(whole)
    with dg.DagsterInstance.get() as sqlite:
        the_runs(whole, sqlite)
        the_automation(whole, sqlite)
        the_code_location_of_the_package()
        the_python_definitions(Path(sys.argv[1]), sqlite)
