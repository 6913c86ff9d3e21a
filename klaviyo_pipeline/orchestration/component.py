"""The Dagster component for one Klaviyo account, which a `dg` project describes in YAML."""

import dataclasses
import re
from collections.abc import Callable
from typing import Annotated, Any, Literal

import dagster as dg
from dagster.components.resolved.core_models import AssetAttributesModel
from dagster.components.resolved.errors import ResolutionException
from dagster.components.utils import TranslatorResolvingInfo
from pydantic import Field

from klaviyo_pipeline.catalog import DEFAULT
from klaviyo_pipeline.config.accounts import AS_VARIABLES, IN_COMPONENT
from klaviyo_pipeline.config.settings import Account, SettingsError
from klaviyo_pipeline.orchestration.build import Translate, build_defs
from klaviyo_pipeline.orchestration.resources.account_settings import account_of, group_name, key_path


def _attribute(read: Callable[[Any], Any], kind: Any, description: str, example: object) -> dg.Resolver:
    """A resolver that calls `read`. A `SettingsError` becomes one line with the file and the line of the attribute."""

    def resolve(context: dg.ResolutionContext, value: Any) -> Any:
        value = context.resolve_value(value, as_type=object)
        try:
            return read(value)
        except SettingsError as error:
            line = str(error)
        where = ""
        if tree := context.source_position_tree:
            place = tree.source_error(yaml_path=context.path, inline_error_message=line, value_error=True)
            where = f"{place.file_name}:{place.start_line_no} - "
        # Dagster would add a stack trace to any other error.
        raise ResolutionException(f"{where}{line}")

    return dg.Resolver(resolve, model_field_type=kind, description=description, examples=[example])


def _setting(name: str, description: str, example: object, kind: Any = str) -> dg.Resolver:
    def read(value: Any) -> Any:
        account_of({name: value})
        return value if value is None or kind is str else int(str(value))

    return _attribute(read, str if kind is str else int | str, description, example)


def _switch(name: str, description: str) -> dg.Resolver:
    def read(value: Any) -> bool:
        if not isinstance(value, bool):
            raise SettingsError(f"{name}={value!r} must be true or false.")
        return value

    return _attribute(read, bool | str, description, True)


def _database_url(value: Any) -> str:
    url = str(value or "")
    account_of({"database_url": url})
    return url


def _assets(value: Any) -> tuple[str, ...]:
    return account_of({"assets": value}).assets


def _conversion_metrics(value: Any) -> str | tuple[str, ...] | None:
    named = account_of({"conversion_metric_id": value}).conversion_metric_id
    return named if named is None or isinstance(named, str) else tuple(named)


def _translation(context: dg.ResolutionContext, model: Any) -> Translate:
    names = {field.name for field in dataclasses.fields(TranslatorResolvingInfo)}
    # Dagster before 1.11.2 requires the name under which templates find the object.
    named: dict[str, Any] = {"obj_name": "spec"} if "obj_name" in names else {}
    info = TranslatorResolvingInfo(asset_attributes=model, resolution_context=context, model_key="translation", **named)
    return lambda spec: info.get_asset_spec(spec, {"spec": spec, "name": spec.key.path[-1]})


class AccountScaffolder(dg.Scaffolder[Any]):
    """Writes the YAML of a new account. Its slug is made from the name of the folder."""

    def scaffold(self, request: dg.ScaffoldRequest[Any]) -> None:
        slug = re.sub(r"[^a-z0-9_]", "_", request.target_path.name.lower())
        key, url = f"KLAVIYO_API_KEY_{slug.upper()}", "KLAVIYO_DATABASE_URL"
        attributes = {
            "slug": slug,
            "api_key": f"{{{{ env.{key} }}}}",
            "timezone": "UTC",
            "start_date": "2025-01-01",
            "database_url": f"{{{{ env.{url} }}}}",
        }
        dg.scaffold_component(request, attributes)
        if request.scaffold_format == "yaml":
            path = request.target_path if request.target_path.is_file() else request.target_path / "defs.yaml"
            with path.open("a", encoding="utf-8") as file:
                # Dagster 1.11 checks that a component declares the environment variables that it uses.
                file.write(f"\nrequirements:\n  env:\n  - {key}\n  - {url}\n")


@dg.scaffold_with(AccountScaffolder)
class KlaviyoAccountComponent(dg.Component, dg.Model, dg.Resolvable):
    """Syncs one Klaviyo account to Postgres, with assets for its flows, campaigns, forms, segments and reports."""

    slug: Annotated[
        str, _setting("slug", "Postgres schema of the tables. Also the default of `key_prefix` and `group`.", "shop_uk")
    ]
    api_key: Annotated[
        str,
        dg.Resolver(
            lambda context, value: context.resolve_value(value) or "",
            model_field_type=str,
            description="Private API key with read scopes, from the environment.",
            examples=["{{ env.KLAVIYO_API_KEY }}"],
        ),
    ] = Field(repr=False)
    timezone: Annotated[str, _setting("timezone", "The account's own time zone, an IANA name.", "Europe/London")] = (
        Account.timezone
    )
    start_date: Annotated[str, _setting("start_date", "First day to sync, in `timezone`.", "2025-01-01")] = (
        Account.start_date.isoformat()
    )
    sync_window: Annotated[
        Literal["daily", "hourly"],
        _setting("sync_window", "Length of the sync windows of entities: daily or hourly.", "daily"),
    ] = Account.sync_window
    lookback_days: Annotated[
        int, _setting("lookback_days", "Number of recent days that scheduled syncs request again.", 7, int)
    ] = Account.lookback_days
    attribution_days: Annotated[
        int, _setting("attribution_days", "Number of days for which a report day can still change.", 5, int)
    ] = Account.attribution_days
    conversion_metric_id: Annotated[
        str | tuple[str, ...] | None,
        _attribute(
            _conversion_metrics,
            list[str] | str,
            "Id of the metric that counts as a conversion, or several ids; found in the account if not set.",
            ["WXyz12", "ABcd34"],
        ),
    ] = None
    database_url: Annotated[
        str | None,
        _attribute(
            _database_url,
            str,
            "postgresql:// URL of the warehouse, from the environment. By default the value of KLAVIYO_DATABASE_URL.",
            "{{ env.KLAVIYO_DATABASE_URL }}",
        ),
    ] = Field(default=None, repr=False)
    api_url: Annotated[str, _setting("api_url", "Base URL of the API, without /api.", Account.api_url)] = (
        Account.api_url
    )
    assets: Annotated[
        tuple[str, ...],
        _attribute(
            _assets,
            list[str] | str,
            "Names of the assets to sync; `default` stands for all assets that are on by default.",
            ["flows", "flow_report", "flow_metrics"],
        ),
    ] = (DEFAULT,)
    key_prefix: Annotated[
        tuple[str, ...],
        _attribute(
            key_path,
            str | list[str],
            "Prefix of the asset keys; the slug by default. It does not change the schema, which is always the slug.",
            "marketing/shop_uk",
        ),
    ] = ()
    group: Annotated[str | None, _attribute(group_name, str, "Asset group; the slug by default.", "marketing")] = None
    schedules: Annotated[bool, _switch("schedules", "Whether to add the account's schedules.")] = True
    sensors: Annotated[bool, _switch("sensors", "Whether to add the account's sensors.")] = True
    checks: Annotated[bool, _switch("checks", "Whether to add the account's asset checks.")] = True
    migrate: Annotated[
        bool,
        _switch(
            "migrate",
            "Whether a run applies missing migrations. The role then needs the rights to create the schema and tables.",
        ),
    ] = False
    translation: Annotated[
        Callable[[dg.AssetSpec], dg.AssetSpec] | None,
        dg.Resolver(
            _translation,
            model_field_type=str | AssetAttributesModel,
            inject_before_resolve=False,
            description="Attributes of the assets. Templates can use `spec` (the asset's spec) and `name`.",
            examples=[{"group_name": "marketing", "key": "klaviyo/{{ name }}"}],
        ),
    ] = None

    @property
    def account(self) -> Account:
        """The account that these attributes describe. Raises `SettingsError` if two of them are contradictory."""
        names = [name for name in AS_VARIABLES if name in type(self).model_fields]
        return dataclasses.replace(
            account_of({name: getattr(self, name) for name in names}),
            api_key=self.api_key,
            database_url=self.database_url,
            migrate=self.migrate,
            key_prefix=self.key_prefix,
            group=self.group,
            described_in=IN_COMPONENT,
        )

    def get_asset_spec(self, spec: dg.AssetSpec) -> dg.AssetSpec:
        """The spec of an asset of the account. Override it to change more than `translation` can."""
        return self.translation(spec) if self.translation else spec

    def execute(self, context: dg.AssetExecutionContext, compute: Callable[[], Any]) -> Any:
        """Runs an asset: `compute` does its work and returns what is stored. Override this method to add your code."""
        return compute()

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """The account's definitions."""
        return build_defs(
            [self.account],
            schedules=self.schedules,
            sensors=self.sensors,
            checks=self.checks,
            translate=self.get_asset_spec,
            execute=self.execute,
        )
