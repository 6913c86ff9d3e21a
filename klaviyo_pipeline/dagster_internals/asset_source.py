"""Where the function of an asset stands in the code."""

import dagster as dg
from dagster._core.definitions.decorators.op_decorator import DecoratedOpFunction


def source_of(asset: dg.AssetsDefinition) -> dg.LocalFileCodeReference:
    """File and line of the asset's function.

    Dagster's own way reads and parses the file for each asset, which for many accounts is the longer part of loading.
    """
    decorated = asset.op.compute_fn
    assert isinstance(decorated, DecoratedOpFunction)
    code = decorated.decorated_fn.__code__
    return dg.LocalFileCodeReference(file_path=code.co_filename, line_number=code.co_firstlineno)
