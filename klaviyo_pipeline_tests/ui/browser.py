"""A headless Chromium."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, Page, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")

# Read here because `clean_environment` removes it.
CHROMIUM = os.environ.get("KLAVIYO_TEST_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
MISSING = "there is no Chromium: install it (Debian: apt install chromium), or set KLAVIYO_TEST_CHROMIUM to its path"

PATIENCE_MS = 60_000
"""Maximum time to wait for an element of a page. The machine may be busy with other tests."""

DESKTOP, PHONE = (1280, 900), (390, 844)


@contextmanager
def chromium() -> Iterator[Browser]:
    """The system's browser; nothing is downloaded."""
    if CHROMIUM is None:
        raise RuntimeError(MISSING)
    # Chromium's sandbox refuses to run as root. The tests open only pages of this project.
    options = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=options)
        yield browser
        browser.close()


def new_page(browser: Browser, size: tuple[int, int] = DESKTOP, *, scale: float = 1) -> Page:
    """A page with separate cookies and storage."""
    width, height = size
    context = browser.new_context(viewport={"width": width, "height": height}, device_scale_factor=scale)
    context.set_default_timeout(PATIENCE_MS)
    return context.new_page()
