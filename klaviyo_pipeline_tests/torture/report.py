"""The format of the reliability results, on the terminal and in `docs/reliability.md`."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Section:
    """The result of one section: Markdown, and one line for each defect."""

    text: str
    defects: list[str]


def measured(began: float) -> str:
    """The machine, and the time since `began` (of the monotonic clock)."""
    minutes = (time.monotonic() - began) / 60
    return (
        f"Measured in {minutes:.1f} minutes on {os.cpu_count()} cores, {platform.system()} {platform.machine()}, "
        f"Python {platform.python_version()}."
    )


def table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)
