"""The results of benchmarks, as lines of JSON and as the tables of docs/performance.md."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from klaviyo_pipeline.config.wording import counted

Sense = Literal["at least", "at most"]


@dataclass(frozen=True)
class Measurement:
    """One result: a share, a ratio, or a count, whose unit is a singular noun. `mark` is its target, if it has one."""

    benchmark: str
    name: str
    value: float
    unit: str = "ratio"
    mark: float | None = None
    sense: Sense = "at least"

    @property
    def is_met(self) -> bool | None:
        """Whether the result meets its target; None without a target."""
        if self.mark is None:
            return None
        return self.value >= self.mark if self.sense == "at least" else self.value <= self.mark

    def as_line(self) -> str:
        """The result as one line of JSON."""
        return json.dumps({**asdict(self), "met": self.is_met})


def as_table(measurements: Iterable[Measurement]) -> str:
    """The results as a Markdown table."""
    rows = [[one.benchmark, one.name, _value(one), _mark(one), _verdict(one)] for one in measurements]
    return "\n".join(map(_row, [["benchmark", "metric", "measured", "target", ""], ["---"] * 5, *rows]))


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _value(measurement: Measurement) -> str:
    return _seen(measurement, measurement.value)


def _mark(measurement: Measurement) -> str:
    return "" if measurement.mark is None else f"{measurement.sense} {_seen(measurement, measurement.mark)}"


def _seen(measurement: Measurement, value: float) -> str:
    if measurement.unit == "share":
        return f"{value:.1%}"
    if measurement.unit == "ratio":
        return f"{value:.2f} ×"
    return counted(round(value), measurement.unit)


def _verdict(measurement: Measurement) -> str:
    return {True: "kept", False: "**missed**", None: ""}[measurement.is_met]
