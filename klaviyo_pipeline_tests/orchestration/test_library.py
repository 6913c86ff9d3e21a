"""The package in somebody's own project: definitions that merge, the component and its hooks, migrations in a run."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import psycopg
import pytest
from click.testing import CliRunner
from dagster.components.resolved.errors import ResolutionException

from klaviyo_pipeline import Account, KlaviyoAccountComponent, KlaviyoResource, build_defs
from klaviyo_pipeline.catalog import ENTITIES
from klaviyo_pipeline.cli.main import cli
from klaviyo_pipeline.config.accounts import FROM_ENVIRONMENT
from klaviyo_pipeline.config.extras import MissingExtra, naming_extra, require_extras
from klaviyo_pipeline.config.settings import SQL_DIR, SettingsError
from klaviyo_pipeline.orchestration.step_errors import step_errors
from klaviyo_pipeline.postgres.schema.migrations import migrate, read_migrations
from klaviyo_pipeline_tests.support import SLUG, Pipeline, empty_shop, key_of, pipeline_on

DAY = "2025-03-03"


@pytest.fixture
def pipeline(migrated: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pipeline]:
    with pipeline_on(migrated, empty_shop(), monkeypatch) as pipeline:
        yield pipeline


@pytest.fixture
def account(pipeline: Pipeline, database: str) -> Account:
    """The served account as another project describes it, with an empty database."""
    return replace(pipeline.account, api_key=key_of(pipeline.shop), database_url=database)


def run(
    definitions: dg.Definitions, key: str, instance: dg.DagsterInstance, window: str = DAY
) -> dg.ExecuteInProcessResult:
    job = definitions.resolve_implicit_global_asset_job_def()
    return job.execute_in_process(
        instance=instance,
        asset_selection=[dg.AssetKey.from_user_string(key)],
        tags={f"dagster/asset_partition_range_{end}": window for end in ("start", "end")},
        raise_on_error=False,
        run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
    )


def keys_of(definitions: dg.Definitions) -> set[str]:
    graph = definitions.get_repository_def().asset_graph
    return {key.to_user_string() for key in graph.get_all_asset_keys()}


def error_of(result: dg.ExecuteInProcessResult) -> str:
    [failed] = [event for event in result.all_events if event.is_step_failure]
    return step_errors(failed)[-1].text


def test_definitions_of_accounts_merge_with_those_of_a_project_and_leave_it_its_executor_and_resources() -> None:
    @dg.asset
    def own(postgres: dg.ResourceParam[str], warehouse: dg.ResourceParam[str], klaviyo: dg.ResourceParam[str]) -> None:
        assert (postgres, warehouse, klaviyo) == ("mine", "mine", "mine")

    theirs = dg.Definitions(
        assets=[own],
        resources=dict.fromkeys(("postgres", "warehouse", "klaviyo", "io_manager"), "mine")
        | {"io_manager": dg.mem_io_manager},
        executor=dg.multiprocess_executor,
        sensors=[dg.SensorDefinition("failed_runs", evaluation_fn=lambda context: None, asset_selection=[own])],
    )
    # One slug begins with another.
    accounts = [
        Account(slug=slug, api_key="pk_secret", database_url="postgresql://x:secret@h/d") for slug in ("a", "a_b")
    ]
    whole = dg.Definitions.merge(theirs, *(build_defs([account]) for account in accounts))
    repository = whole.get_repository_def()
    assert {job.executor_def.name for job in repository.get_all_jobs()} == {"multiprocess"}
    assert {"failed_runs", "a_failed_runs", "a_b_failed_runs"} <= {sensor.name for sensor in repository.sensor_defs}
    assert not [name for name in repository.job_names if name.endswith("_prune")]
    resources = repository.get_top_level_resources()
    assert {name.partition("__")[0] for name in resources if "__" in name} == {"klaviyo_account", "klaviyo_tables"}
    assert "secret" not in repr([resource.resource_fn for resource in resources.values()]) + repr(accounts)
    with dg.DagsterInstance.ephemeral() as instance:
        job = whole.resolve_implicit_global_asset_job_def()
        assert job.execute_in_process(instance=instance, asset_selection=[own.key]).success


def test_an_account_has_the_chosen_assets_only_and_whatever_belongs_to_them() -> None:
    definitions = build_defs(
        [Account(key_prefix=("crm",), group="crm", assets=("flows", "flow_report"))], sensors=False
    )
    repository = definitions.get_repository_def()
    assert keys_of(definitions) == {"crm/flows", "crm/flows_census", "crm/flow_report"}
    names = {job.name for job in repository.get_all_jobs() if not job.name.startswith("__")}
    assert names == {
        f"klaviyo_{name}"
        for name in ("flows", "flow_report", "entities", "reports", "census", "all", "checks", "reconcile")
    }
    assert "klaviyo_tags_daily" not in {schedule.name for schedule in repository.schedule_defs}
    assert {key.asset_key.to_user_string() for key in repository.asset_graph.asset_check_keys} == keys_of(definitions)
    with pytest.raises(SettingsError, match="there is no asset 'flow'; choose from default, flows"):
        build_defs([Account(assets=("flow",))])


class Own(KlaviyoAccountComponent):
    """A subclass with both hooks."""

    def get_asset_spec(self, spec: dg.AssetSpec) -> dg.AssetSpec:
        key = dg.AssetKey(["crm", f"klaviyo_{spec.key.path[-1]}"])
        return super().get_asset_spec(spec).replace_attributes(key=key, group_name="crm")

    def execute(self, context: dg.AssetExecutionContext, compute: Callable[[], Any]) -> Any:
        context.add_asset_metadata({"hook": "called"})
        return compute()


def component(account: Account, kind: type[KlaviyoAccountComponent] = Own, **attributes: Any) -> dg.Definitions:
    assert account.database_url
    made = kind(
        slug=account.slug,
        api_key=str(account.api_key),
        database_url=account.database_url,
        api_url=account.api_url,
        timezone=account.timezone,
        start_date=account.start_date.isoformat(),
        **attributes,
    )
    context: Any = None
    return made.build_defs(context)


def test_a_subclass_of_the_component_changes_keys_and_runs_and_the_tables_stay(account: Account) -> None:
    definitions = component(account, migrate=True)
    graph = definitions.get_repository_def().asset_graph
    metrics = graph.get(dg.AssetKey(["crm", "klaviyo_flow_metrics"]))
    assert {key.to_user_string() for key in metrics.parent_keys} == {"crm/klaviyo_flow_report", "crm/klaviyo_flows"}
    assert metrics.group_name == "crm"
    with dg.DagsterInstance.ephemeral() as instance:
        result = run(definitions, "crm/klaviyo_flows", instance)
        assert result.success
        [stored] = result.get_asset_materialization_events()
        assert stored.materialization.metadata["hook"].value == "called"
    with psycopg.connect(str(account.database_url)) as connection:
        found = connection.execute(f"SELECT entity, status FROM {SLUG}.sync_windows").fetchall()
    assert found == [("flows", "synced")]


def test_a_run_names_the_remedy_for_a_schema_that_is_older_or_newer_than_the_code(
    account: Account, tmp_path: Path
) -> None:
    definitions, url = component(account), str(account.database_url)
    with dg.DagsterInstance.ephemeral() as instance:
        older = error_of(run(definitions, "crm/klaviyo_flows", instance))
        assert older.startswith(f"Schema {SLUG} lacks {len(read_migrations(SQL_DIR))} migrations")
        assert "run `klaviyo-pipeline migrate`, or set `migrate` to true" in older
        migrate(url, SLUG, SQL_DIR)
        with psycopg.connect(url) as connection:
            connection.execute(f"INSERT INTO {SLUG}.schema_migrations VALUES (900, '900_later.sql', 'x')")
        newer = error_of(run(definitions, "crm/klaviyo_flows", instance))
        assert "update this project if a newer version of it migrated the database" in newer
        assert "\n" not in older + newer


def test_the_resource_alone_gives_a_client_of_the_account(pipeline: Pipeline, account: Account) -> None:
    flows = ENTITIES["flows"]
    with KlaviyoResource().client(account) as client:
        assert client.account().timezone == pipeline.account.timezone
        pages = [page for query in flows.queries(None, None, client.pacer.now()) for page in client.pages(flows, query)]
    assert pages


def test_an_empty_key_or_url_of_an_account_is_one_line(account: Account) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        keyless = build_defs([replace(account, api_key=dg.EnvVar("ABSENT_KEY"), migrate=True)])
        assert "ABSENT_KEY is empty" in error_of(run(keyless, f"{SLUG}/flows", instance))
        homeless = build_defs([replace(account, database_url="")])
        assert f"database_url (Account, {SLUG}) is empty" in error_of(run(homeless, f"{SLUG}/flows", instance))


def test_what_a_run_finds_wrong_has_the_name_that_code_or_component_gives_it(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("URL_OF_OTHERS", "mysql://u:hidden@h/d")
    with dg.DagsterInstance.ephemeral() as instance:
        other = build_defs([replace(account, database_url=dg.EnvVar("URL_OF_OTHERS"))])
        refused = error_of(run(other, f"{SLUG}/flows", instance))
        assert refused.startswith("URL_OF_OTHERS must have the form postgresql://")
        assert "hidden" not in refused
        assert run(build_defs([replace(account, migrate=True)]), f"{SLUG}/flows", instance).success
        moved = build_defs([replace(account, timezone="Asia/Tokyo")])
        assert f"set timezone (Account, {SLUG})=" in error_of(run(moved, f"{SLUG}/flows", instance))
        shut = component(replace(account, api_key="pk_wrong"), KlaviyoAccountComponent)
        assert f"api_key (the component, {SLUG})" in error_of(run(shut, f"{SLUG}/flows", instance))


def test_the_commands_that_repair_a_schema_work_for_an_account_in_code_that_the_environment_describes(
    account: Account, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = str(account.database_url)
    variables = {"ACCOUNT": SLUG, "DATABASE_URL": url, "TIMEZONE": account.timezone, "SYNC_WINDOW": "hourly"}
    for name, value in (variables | {"DAGSTER_DATABASE_URL": url, "STATE_DIR": str(tmp_path)}).items():
        monkeypatch.setenv(f"KLAVIYO_{name}", value)
    monkeypatch.setenv("DAGSTER_HOME", "")
    hourly = build_defs([replace(account, sync_window="hourly")])
    with dg.DagsterInstance.ephemeral() as instance, psycopg.connect(url, autocommit=True) as connection:
        assert run(build_defs([replace(account, migrate=True)]), f"{SLUG}/flows", instance).success
        refused = error_of(run(hourly, f"{SLUG}/flows", instance, f"{DAY}-05:00"))
        assert f"run `klaviyo-pipeline reset-windows` {FROM_ENVIRONMENT} to reset" in refused
        reset = CliRunner().invoke(cli, ["reset-windows", "--yes"])
        assert reset.exit_code == 0, reset.output
        assert run(hourly, f"{SLUG}/flows", instance, f"{DAY}-05:00").success
        connection.execute(f"UPDATE {SLUG}.sync_windows SET asked_at = now() + interval '1 day'")
        clock = CliRunner().invoke(cli, ["reset-clock", "--yes"])
        assert clock.output.startswith("Corrected rows: 1 in sync_windows."), clock.output


WRONG: dict[str, Any] = {
    "slug": "Shop-UK",
    "timezone": "Mars",
    "start_date": "soon",
    "sync_window": "weekly",
    "lookback_days": -1,
    "attribution_days": "few",
    "assets": ["flow"],
    "api_url": "ftp://x",
    "database_url": "mysql://u:hidden@h/d",
    "key_prefix": "a b/c",
    "group": "a b",
}
"""A value for each setting that cannot be used."""


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *WRONG.items(),
        ("assets", []),
        ("assets", ["flow_metrics"]),
        ("revision", "2020-01-01"),
        ("owners", ["jo"]),
        ("rate_scale", -1),
    ],
)
def test_an_invalid_setting_in_code_is_one_line_that_names_the_parameter(name: str, value: Any) -> None:
    account = Account(**{"slug": "x", name: value})
    with pytest.raises(SettingsError) as refused:
        build_defs([account])
    line = str(refused.value)
    assert line.startswith(f"Account {account.slug!r}: {name}")
    assert not any(word in line for word in ("\n", "KLAVIYO_", "hidden"))
    if name == "revision":
        with pytest.raises(SettingsError, match="Account 'x': revision"), KlaviyoResource().client(account):
            pass


def test_texts_are_read_in_code_as_in_a_component() -> None:
    texts: dict[str, Any] = {"start_date": "2025-01-01", "key_prefix": "crm/uk", "assets": ["flows"]}
    assert keys_of(build_defs([Account(**texts)])) == {"crm/uk/flows", "crm/uk/flows_census"}


@pytest.mark.parametrize(
    ("name", "value"),
    [*WRONG.items(), ("assets", []), *((name, "maybe") for name in ("checks", "migrate", "schedules"))],
)
def test_a_wrong_attribute_of_the_component_is_one_line_with_file_and_line(name: str, value: Any) -> None:
    attributes = {"slug": "x", "api_key": "pk_secret", name: value}
    # JSON is YAML.
    text = "\n".join(f"{attribute}: {json.dumps(each)}" for attribute, each in attributes.items())
    with pytest.raises(ResolutionException) as refused:
        KlaviyoAccountComponent.resolve_from_yaml(text)
    line = str(refused.value)
    assert line.startswith(f"<string>:{1 if name == 'slug' else 3} - {name}")
    assert not any(word in line for word in ("\n", "KLAVIYO_", "hidden", "pk_secret"))


@pytest.mark.parametrize("extras", [("report",), ("embedded", "ui")])
def test_a_missing_extra_is_one_line_that_names_it(extras: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("klaviyo_pipeline.config.extras.find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=rf"x needs .*: pip install 'klaviyo-pipeline\[{','.join(extras)}\]'"):
        require_extras("x", *extras)
    with pytest.raises(MissingExtra, match="A page needs the extra report"), naming_extra("A page"):
        raise ModuleNotFoundError("no matplotlib", name="matplotlib.figure")
    with pytest.raises(ModuleNotFoundError), naming_extra("A page"):
        raise ModuleNotFoundError("no other", name="other")
