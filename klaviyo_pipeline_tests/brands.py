"""Ten small accounts in five zones behind one address, for tests of many accounts."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
import yaml

from klaviyo_pipeline.sandbox.sandbox_account import SandboxAccount
from klaviyo_pipeline.sandbox.server import SandboxServer
from klaviyo_pipeline_tests.support import dagster_home, empty_shop, key_of, put, truth, utc

PROGRAM = str(Path(sys.executable).with_name("klaviyo-pipeline"))
ZONES = ("America/New_York", "Europe/London", "Asia/Tokyo", "Australia/Sydney", "America/Sao_Paulo")
REVOKED = "brand_7"
FIRST, LAST = date(2025, 3, 8), date(2025, 3, 12)


@dataclass(frozen=True)
class Brands:
    """Ten accounts behind one address, the file that describes them, and the environment of a shell."""

    shops: dict[str, SandboxAccount]
    server: SandboxServer
    database: str
    variables: dict[str, str] = field(repr=False)

    def run(self, *arguments: str, **changed: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [PROGRAM, *arguments],
            env={**os.environ, **self.variables, **changed},
            capture_output=True,
            text=True,
            check=False,
            timeout=280,
        )
        self.check_secrets(done.stdout + done.stderr)
        return done

    def check_secrets(self, output: str) -> None:
        for shop in self.shops.values():
            assert key_of(shop) not in output

    def rows(self, query: str, schema: str = "public") -> list[Any]:
        with psycopg.connect(self.database, options=f"-csearch_path={schema}") as connection:
            return connection.execute(query.encode()).fetchall()

    def stored(self, slug: str, entity: str) -> dict[str, tuple[str, datetime]]:
        found = self.rows(f"SELECT id, name, updated_at FROM {entity} WHERE deleted_at IS NULL ORDER BY id", slug)
        return {id: (name, updated) for id, name, updated in found}

    def expected(self, slug: str, entity: str) -> dict[str, tuple[str, datetime]]:
        """The account's objects and values on its own days from FIRST to LAST."""
        zone = ZoneInfo(self.shops[slug].timezone)
        since, until = (datetime.combine(day, time(), zone) for day in (FIRST, LAST + timedelta(days=1)))
        return {id: values[:2] for id, values in truth(self.shops[slug], entity, since, until).items()}


def brand(number: int) -> SandboxAccount:
    """A small account: an object on each side of its midnights, and report values that differ from other accounts."""
    shop = empty_shop(ZONES[number % len(ZONES)])
    shop.id = f"BRAND{number}"
    for hour in range(0, 24 * 4, 5):
        put(shop, "flows", f"f{hour}_{number}", utc(f"2025-03-{9 + hour // 24:02}T{hour % 24:02}:30:00"))
    put(shop, "forms", f"o{number}", utc("2025-03-10T12:00:00"))
    key = {"flow_id": f"f0_{number}", "flow_message_id": "M", "send_channel": "email"}
    figures = {"recipients": 10 + number, "delivered": 9, "conversion_value": 12.5 * number}
    shop.set_figures("flow", key, utc("2025-03-10T12:00:00").date(), figures)
    return shop


def brands_in(
    database: str, folder: Path, rate_scale: float = 0, numbers: Iterable[int] = range(10)
) -> Iterator[Brands]:
    """Serve these accounts, and describe them in `folder`. `rate_scale` is a factor on the published rates; 0: none."""
    shops = {f"brand_{number}": brand(number) for number in numbers}
    keys = {f"KEY_OF_{slug.upper()}": key_of(shop) for slug, shop in shops.items()}
    shops[REVOKED].api_keys = {"pk_another": set()}
    with SandboxServer(list(shops.values()), rate_scale=rate_scale) as server:
        variables = keys | described(shops, server.url, rate_scale, database, folder)
        yield Brands(shops, server, database, variables)


def described(
    shops: dict[str, SandboxAccount], url: str, rate_scale: float, database: str, folder: Path
) -> dict[str, str]:
    """Write the accounts file into the folder. Returns the environment for it, without the keys."""
    file = folder / "accounts.yaml"
    entries = [
        {"slug": slug, "api_key_env": f"KEY_OF_{slug.upper()}", "timezone": shop.timezone}
        for slug, shop in shops.items()
    ]
    defaults = {"api_url": url, "rate_scale": rate_scale, "start_date": "2025-03-01"}
    file.write_text(yaml.safe_dump({"defaults": defaults, "accounts": entries}))
    return {
        "KLAVIYO_ACCOUNTS_FILE": str(file),
        "KLAVIYO_DATABASE_URL": database,
        "KLAVIYO_DAGSTER_DATABASE_URL": database,
        "KLAVIYO_IGNORE_DOTENV": "1",
        "DAGSTER_HOME": str(dagster_home(folder)),
    }
