"""Takes the screenshots of the README: `python -m klaviyo_pipeline_tests.ui.shots docs/images`."""

from __future__ import annotations

import io
import os
import sys
import tempfile
from datetime import timedelta
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page

from klaviyo_pipeline.postgres.server.embedded import EmbeddedPostgres
from klaviyo_pipeline_tests.conftest import THROW_AWAY
from klaviyo_pipeline_tests.support import throw_away_database
from klaviyo_pipeline_tests.ui.browser import chromium, new_page
from klaviyo_pipeline_tests.ui.site import Site, site
from klaviyo_pipeline_tests.ui.tour import GRAPH, open_chart, open_graph, open_partition

COLOURS = 128
LARGEST_BYTES = 200_000


def take(folder: Path) -> None:
    """Take every screenshot of an account of typical size, with the last weeks synced."""
    os.environ["KLAVIYO_IGNORE_DOTENV"] = "1"
    with tempfile.TemporaryDirectory(prefix="klaviyo-shots-") as name:
        place = Path(name)
        # If root runs this, the server's unprivileged user needs access to the folder.
        place.chmod(0o711)
        home = place / "dagster"
        home.mkdir()
        server = EmbeddedPostgres(place / "server", settings=THROW_AWAY)
        try:
            with throw_away_database(server.start()) as database, site(database, home, []) as opened:
                opened.run("check")
                with chromium() as browser:
                    _take(browser, opened, folder, home)
        finally:
            server.stop()


def _take(browser: Browser, opened: Site, folder: Path, home: Path) -> None:
    page = new_page(browser, GRAPH)
    open_graph(page, opened)
    save(page, folder / "assets.png")

    page = new_page(browser, (1440, 960))
    reported = open_partition(page, opened, "flow_metrics", opened.today)
    open_chart(page, reported)
    save(page, folder / "metrics.png")

    report = home / "report.html"
    opened.run("report", "--out", str(report), "--to", str(opened.today - timedelta(days=7)))
    page = new_page(browser, (1120, 1130))
    page.goto(report.as_uri())
    save(page, folder / "report.png")


def save(page: Page, file: Path) -> None:
    """Save a screenshot with few colours, to keep the repository small."""
    seen = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    seen.quantize(COLOURS, Image.Quantize.MAXCOVERAGE).save(file, optimize=True)
    size = file.stat().st_size
    print(f"{file}: {size // 1000} kB")
    assert size < LARGEST_BYTES, f"{file} is too large for a README"
    page.context.close()


if __name__ == "__main__":
    take(Path(sys.argv[1]))
