"""Python's search for garbage, held back where nothing is garbage: modules and definitions.

They are many small objects that stay. To look through all of them again and again takes a third of the time that it
takes to import Dagster and to make definitions; and half a second more when the process ends.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def gc_paused() -> Iterator[None]:
    """Look for garbage once, at the end of this block, and in what it made."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.collect(0)


@contextmanager
def gc_frozen() -> Iterator[None]:
    """`gc_paused`, for what stays as long as the process: what was made is never looked through again.

    Nor is it at the process's end. Processes that are forked later share its pages.
    """
    outermost = gc.isenabled()
    with gc_paused():
        yield
    if outermost:
        gc.freeze()
