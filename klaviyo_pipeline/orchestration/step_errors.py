"""Why a step failed: its error and the causes of it."""

from __future__ import annotations

from typing import NamedTuple

import dagster as dg

from klaviyo_pipeline.postgres.engine import first_line


class StepError(NamedTuple):
    """An error in a step. `message` is Dagster's: the class with its module, a colon, and the error's own text."""

    class_name: str
    message: str

    @property
    def text(self) -> str:
        """The error's own text; Dagster's message if there is none."""
        name, separator, text = self.message.partition(": ")
        return text.strip() if separator and " " not in name else self.message.strip()


def failure_line(failed: dg.DagsterEvent) -> str | None:
    """Why a step failed, on one line: the text of our own failure, else that of the root cause. None if not known."""
    errors = step_errors(failed)
    own = [error for error in errors if error.class_name == dg.Failure.__name__]
    return first_line((own or errors[-1:])[0].text) if errors else None


def step_errors(failed: dg.DagsterEvent) -> list[StepError]:
    """The error of a failed step, followed by its causes: the last one is the root cause. Empty if none is known."""
    errors: list[StepError] = []
    error = failed.step_failure_data.error
    while error is not None:
        errors.append(StepError(error.cls_name or "", error.message))
        error = error.cause
    return errors
