"""A repository of many accounts that builds each account's definitions when Dagster first requests them.

The code server requests all of them. A run requests only its job, so it builds only the definitions of its own account.
With two hundred accounts, this takes a fifth of a second instead of many seconds, in the process of every run and step.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence, Set
from functools import cached_property

import dagster as dg
from dagster._core.definitions.repository_definition import SINGLETON_REPOSITORY_NAME

from klaviyo_pipeline.config.settings import Account
from klaviyo_pipeline.dagster_internals.gc_tuning import gc_frozen

EVERY_ASSET_JOB = "__ASSET_JOB"
"""Dagster's implicit job over all assets, which runs manual materializations."""


class AccountsRepository(dg.RepositoryData):
    """The definitions of these accounts.

    `part` builds the definitions of one account. `whole` builds definitions that span all accounts: every asset and
    check, and the sensors that belong to no single account.
    """

    def __init__(
        self,
        accounts: Sequence[Account],
        part: Callable[[Account], dg.Definitions],
        whole: Callable[[], dg.Definitions],
    ) -> None:
        self._accounts = {account.slug: account for account in accounts}
        self._make_part, self._make_whole = part, whole
        self._parts: dict[str, dg.RepositoryDefinition] = {}
        self._lock = threading.RLock()

    def definition(self) -> dg.RepositoryDefinition:
        """The repository for Dagster, under the name that `dg.Definitions` gives to a repository."""
        return dg.RepositoryDefinition(SINGLETON_REPOSITORY_NAME, repository_data=self)

    def part(self, slug: str) -> dg.RepositoryDefinition:
        """The repository of one account."""
        with self._lock:
            if slug not in self._parts:
                with gc_frozen():
                    self._parts[slug] = self._make_part(self._accounts[slug]).get_repository_def()
            return self._parts[slug]

    @property
    def parts(self) -> list[dg.RepositoryDefinition]:
        """The repositories of all accounts."""
        with gc_frozen():
            return [self.part(slug) for slug in self._accounts]

    @cached_property
    def whole(self) -> dg.RepositoryDefinition:
        """The repository that spans all accounts: every asset and check in one graph."""
        with self._lock, gc_frozen():
            return self._make_whole().get_repository_def()

    def get_top_level_resources(self) -> Mapping[str, dg.ResourceDefinition]:
        return self.whole.get_top_level_resources()

    def get_env_vars_by_top_level_resource(self) -> Mapping[str, Set[str]]:
        return self.whole.get_env_vars_by_top_level_resource()

    def get_all_jobs(self) -> Sequence[dg.JobDefinition]:
        own: list[dg.JobDefinition] = []
        for part in self.parts:
            with gc_frozen():
                own += [part.get_job(name) for name in part.job_names if name != EVERY_ASSET_JOB]
        return [*own, self.get_job(EVERY_ASSET_JOB)]

    def get_job_names(self) -> Sequence[str]:
        return [*(name for part in self.parts for name in part.job_names if name != EVERY_ASSET_JOB), EVERY_ASSET_JOB]

    def get_job(self, job_name: str) -> dg.JobDefinition:
        return self._repository_with(job_name, "has_job").get_job(job_name)

    def has_job(self, job_name: str) -> bool:
        return self._repository_with(job_name, "has_job").has_job(job_name)

    def get_all_schedules(self) -> Sequence[dg.ScheduleDefinition]:
        return [schedule for part in self.parts for schedule in part.schedule_defs]

    def get_schedule(self, schedule_name: str) -> dg.ScheduleDefinition:
        return self._repository_with(schedule_name, "has_schedule_def").get_schedule_def(schedule_name)

    def has_schedule(self, schedule_name: str) -> bool:
        return self._repository_with(schedule_name, "has_schedule_def").has_schedule_def(schedule_name)

    def get_all_sensors(self) -> Sequence[dg.SensorDefinition]:
        # Dagster adds an automation sensor to each part. Only the sensor of the whole repository is used.
        own = [
            sensor
            for slug, part in zip(self._accounts, self.parts, strict=True)
            for sensor in part.sensor_defs
            if sensor.name.startswith(f"{slug}_")
        ]
        return [*own, *self.whole.sensor_defs]

    def get_sensor(self, sensor_name: str) -> dg.SensorDefinition:
        return self._repository_with(sensor_name, "has_sensor_def").get_sensor_def(sensor_name)

    def has_sensor(self, sensor_name: str) -> bool:
        return self._repository_with(sensor_name, "has_sensor_def").has_sensor_def(sensor_name)

    def get_assets_defs_by_key(self) -> Mapping[dg.AssetKey, dg.AssetsDefinition]:
        return {key: asset for part in self.parts for key, asset in part.assets_defs_by_key.items()}

    def get_asset_checks_defs_by_key(self) -> Mapping[dg.AssetCheckKey, dg.AssetChecksDefinition]:
        return {key: check for part in self.parts for key, check in part.asset_checks_defs_by_key.items()}

    def _repository_with(self, name: str, has: str) -> dg.RepositoryDefinition:
        """The repository of an account if it has a definition of this name, else the repository of all accounts.

        `has` is the repository's method that looks for the name. The account's slug at the beginning of the name is not
        enough, because one slug may begin with another, such as `shop` and `shop_uk`.
        """
        for slug in self._accounts:
            if name.startswith(f"{slug}_") and getattr(self.part(slug), has)(name):
                return self.part(slug)
        return self.whole
