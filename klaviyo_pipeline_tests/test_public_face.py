"""The public names with their signatures, as a snapshot: a change that breaks somebody's project shows in review.

`python -m klaviyo_pipeline_tests.test_public_face` rewrites it.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import klaviyo_pipeline

SNAPSHOT = Path(__file__).with_name("public_face.txt")


def face() -> str:
    """Every public name, with its parameters, or with the fields and methods of a class."""
    return "".join(f"{line}\n" for name in klaviyo_pipeline.__all__ for line in _lines(getattr(klaviyo_pipeline, name)))


def _lines(public: object) -> Iterator[str]:
    assert callable(public)
    name = getattr(public, "__name__", "")
    if not inspect.isclass(public):
        yield f"{name}{_signature(public)}"
        return
    yield name
    if dataclasses.is_dataclass(public):
        for field in dataclasses.fields(public):
            required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
            yield f"  {field.name}: {field.type}" + ("" if required else f" = {field.default!r}")
    for field, info in getattr(public, "model_fields", {}).items():
        yield f"  {field}" + ("" if info.is_required() else f" = {info.default!r}")
    for method, code in vars(public).items():
        if inspect.isfunction(code) and not method.startswith("_"):
            yield f"  {method}{_signature(code)}"


def _signature(code: object) -> str:
    assert callable(code)
    # Without the modules of types and the addresses of functions, which differ from one version or run to another.
    return re.sub(r"\b(\w+\.)+(?=\w)| at 0x\w+|'", "", str(inspect.signature(code)))


def test_the_public_face_is_the_one_that_was_last_agreed_upon() -> None:
    agreed = SNAPSHOT.read_text(encoding="utf-8")
    assert face() == agreed, "if the change is meant: python -m klaviyo_pipeline_tests.test_public_face"


if __name__ == "__main__":
    SNAPSHOT.write_text(face(), encoding="utf-8")
