"""Finds the source code of an asset."""

import inspect

import dagster as dg
from dagster._core.definitions.decorators.op_decorator import DecoratedOpFunction


def source_of(asset: dg.AssetsDefinition) -> dg.LocalFileCodeReference:
    """File and line of the asset's function.

    Dagster has a function for this, which parses the file again for each asset. With many accounts, that takes most of
    the time that the code location needs to start.
    """
    decorated = asset.op.compute_fn
    assert isinstance(decorated, DecoratedOpFunction)
    code = inspect.unwrap(decorated.decorated_fn).__code__
    return dg.LocalFileCodeReference(file_path=code.co_filename, line_number=code.co_firstlineno)
