"""Why a step failed: its error, and the errors that caused it."""

from __future__ import annotations

from typing import NamedTuple

import dagster as dg

from klaviyo_pipeline.postgres.engine import first_line


class StepError(NamedTuple):
    """An error in a step. Dagster writes `message`: the class with its module, a colon, and the error's own text."""

    class_name: str
    message: str

    @property
    def text(self) -> str:
        """The error's own text, or the whole message if it does not begin with a class name."""
        name, separator, text = self.message.partition(": ")
        return text.strip() if separator and " " not in name else self.message.strip()


def failure_line(failed: dg.DagsterEvent) -> str | None:
    """Why a step failed, on one line: the text of the first `dg.Failure` or, without one, of the root cause.

    None if no error is known.
    """
    errors = step_errors(failed)
    own = [error for error in errors if error.class_name == dg.Failure.__name__]
    return first_line((own or errors[-1:])[0].text) if errors else None


def step_errors(failed: dg.DagsterEvent) -> list[StepError]:
    """The error of a failed step, followed by its causes. The last error is the root cause. Empty if none is known."""
    errors: list[StepError] = []
    error = failed.step_failure_data.error
    while error is not None:
        errors.append(StepError(error.cls_name or "", error.message))
        error = error.cause
    return errors
