"""One signature for all functions that a factory makes from the same body.

Dagster asks for the signature of an asset's or check's function some seventeen times while it is defined, and works it
out anew each time: of two hundred accounts that is a fifth of the time that their definitions take.
"""

import inspect
from collections.abc import Callable
from types import CodeType, FunctionType
from typing import TypeVar

_F = TypeVar("_F", bound=Callable[..., object])
_worked_out: dict[CodeType, inspect.Signature] = {}


def cache_signature(body: _F) -> _F:
    """The function itself, which now carries its signature. Its annotations may not differ from one call of its
    factory to the next: those of the first hold for all.
    """
    assert isinstance(body, FunctionType)
    if body.__code__ not in _worked_out:
        _worked_out[body.__code__] = inspect.signature(body)
    vars(body)["__signature__"] = _worked_out[body.__code__]
    return body
