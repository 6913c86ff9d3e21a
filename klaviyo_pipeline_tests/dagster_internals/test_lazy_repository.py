"""The code location of many accounts: the same definitions as built at once, but built for each account on request."""

from __future__ import annotations

import gc
import logging
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.remote_representation.external_data import RepositorySnap

from klaviyo_pipeline.config.settings import Account
from klaviyo_pipeline.dagster_internals.gc_tuning import gc_frozen
from klaviyo_pipeline.dagster_internals.lazy_repository import AccountsRepository
from klaviyo_pipeline.definitions import defs
from klaviyo_pipeline.orchestration.build import accounts_repository, installation_defs, project_defs
from klaviyo_pipeline.orchestration.jobs import ACCOUNT_TAG

# One slug begins with another.
ACCOUNTS = [
    Account(slug="shop", timezone="America/New_York"),
    Account(slug="shop_uk", timezone="Europe/London", sync_window="hourly", database_url_variable="URL_OF_UK"),
    Account(slug="brand", timezone="Asia/Tokyo"),
]


@pytest.fixture(scope="module")
def made() -> AccountsRepository:
    return accounts_repository(ACCOUNTS)


@pytest.fixture(scope="module")
def repository(made: AccountsRepository) -> dg.RepositoryDefinition:
    repository = made.definition()
    repository.load_all_definitions()
    return repository


def test_it_contains_the_same_as_definitions_built_at_once(repository: dg.RepositoryDefinition) -> None:
    whole = project_defs(ACCOUNTS).get_repository_def()
    assert repository.name == whole.name
    assert sorted(repository.job_names) == sorted(whole.job_names)
    assert {job.name for job in repository.get_all_jobs()} == set(repository.job_names)
    assert sorted(one.name for one in repository.schedule_defs) == sorted(one.name for one in whole.schedule_defs)
    assert sorted(one.name for one in repository.sensor_defs) == sorted(one.name for one in whole.sensor_defs)
    assert repository.asset_graph.get_all_asset_keys() == whole.asset_graph.get_all_asset_keys()
    assert set(repository.asset_graph.asset_check_keys) == set(whole.asset_graph.asset_check_keys)
    assert repository.get_top_level_resources().keys() == whole.get_top_level_resources().keys()


def test_every_account_has_the_same_definitions_under_its_own_name(repository: dg.RepositoryDefinition) -> None:
    by_account = {
        account.slug: {
            key.path[1] for key in repository.asset_graph.get_all_asset_keys() if key.path[0] == account.slug
        }
        for account in ACCOUNTS
    }
    assert len({frozenset(assets) for assets in by_account.values()}) == 1
    assert len(by_account["shop"]) == 25
    zones = {
        repository.asset_graph.get(dg.AssetKey([account.slug, "flows"])).partitions_def.timezone  # type: ignore[union-attr]
        for account in ACCOUNTS
    }
    assert zones == {account.timezone for account in ACCOUNTS}


def test_every_job_is_tagged_with_its_account(repository: dg.RepositoryDefinition) -> None:
    for job in repository.get_all_jobs():
        slugs = {key.path[0] for key in job.asset_layer.executable_asset_keys}
        if not job.name.startswith("__"):
            assert slugs <= {job.tags[ACCOUNT_TAG]}
            assert job.name.startswith(f"{job.tags[ACCOUNT_TAG]}_")


def test_a_run_builds_only_the_definitions_of_its_own_account() -> None:
    made = accounts_repository(ACCOUNTS)
    job = made.definition().get_job("brand_entities")
    assert {key.path[0] for key in job.asset_layer.executable_asset_keys} == {"brand"}
    assert list(made._parts) == ["brand"]


def test_a_name_that_begins_with_two_slugs_is_found_in_its_own_account(repository: dg.RepositoryDefinition) -> None:
    assert repository.get_job("shop_uk_census").tags[ACCOUNT_TAG] == "shop_uk"
    assert repository.get_schedule_def("shop_uk_entities_hourly").job_name == "shop_uk_entities"
    assert repository.has_sensor_def("shop_uk_missing_windows")
    assert not repository.has_job("shop_uk_all")
    assert not repository.has_job("nobody_all")


def test_a_manual_materialization_may_be_of_any_account(repository: dg.RepositoryDefinition) -> None:
    job = repository.get_implicit_global_asset_job_def()
    assert {key.path[0] for key in job.asset_layer.executable_asset_keys} == {account.slug for account in ACCOUNTS}


def test_nothing_is_built_before_it_is_requested() -> None:
    made: list[str] = []

    def part(account: Account) -> dg.Definitions:
        made.append(account.slug)
        return dg.Definitions()

    def whole() -> dg.Definitions:
        made.append("whole")
        return dg.Definitions()

    repository = AccountsRepository(ACCOUNTS, part, whole)
    repository.definition()
    assert made == []
    repository.part("shop_uk")
    repository.part("shop_uk")
    assert made == ["shop_uk"]


def test_each_job_is_built_once_when_all_are_loaded_and_none_for_the_list_of_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    repository = accounts_repository(ACCOUNTS).definition()
    made: list[str] = []
    build = dg.JobDefinition.__init__

    def noted(job: dg.JobDefinition, **given: Any) -> None:
        build(job, **given)
        made.append(job.name)

    monkeypatch.setattr(dg.JobDefinition, "__init__", noted)
    assert repository.asset_graph.get_all_asset_keys()
    # Jobs of assets take most of the time. The others have a single step.
    others = {f"{account.slug}_{kind}" for account in ACCOUNTS for kind in ("prune", "checks")}
    assert set(made) == others
    made.clear()
    repository.load_all_definitions()
    of_assets = [name for name in repository.job_names if name not in others]
    assert sorted(name for name in made if name not in others) == sorted(of_assets)
    made.clear()
    RepositorySnap.from_def(repository, defer_snapshots=True)
    assert made == []


def test_frozen_objects_are_not_scanned_again() -> None:
    before = gc.get_freeze_count()
    with gc_frozen():
        assert not gc.isenabled()
        made = [[number] for number in range(1_000)]
    assert gc.get_freeze_count() >= before + len(made)


def test_garbage_collection_continues_afterwards(repository: dg.RepositoryDefinition) -> None:
    assert gc.isenabled()


def test_the_code_location_loads_without_an_invalid_entry_and_logs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "accounts.yaml"
    file.write_text("accounts: [{slug: one}, {slug: two}, {slug: bad, timezone: Mars}]")
    monkeypatch.setenv("KLAVIYO_ACCOUNTS_FILE", str(file))
    with caplog.at_level(logging.ERROR):
        loaded = installation_defs()
    assert isinstance(loaded, dg.RepositoryDefinition)
    assert {key.path[0] for key in loaded.asset_graph.get_all_asset_keys()} == {"one", "two"}
    assert "account bad: timezone='Mars' is not an IANA time zone" in caplog.text


def test_the_account_of_the_environment_has_plain_definitions() -> None:
    assert isinstance(defs, dg.Definitions)
    assert "klaviyo_flows" in defs.get_repository_def().job_names
