"""A schema bound to an account, without any metrics."""

from __future__ import annotations

import pytest

from klaviyo_pipeline_tests.postgres.conftest import store, store_template  # noqa: F401 - fixtures
from klaviyo_pipeline_tests.postgres.store import Store
from klaviyo_pipeline_tests.reporting.books import Books


@pytest.fixture
def books(store: Store) -> Books:  # noqa: F811
    made = Books(store)
    made.open()
    return made


@pytest.fixture
def filled(books: Books) -> Books:
    books.fill()
    return books
