"""Events of Dagster's log that begin with what a person needs to know.

- A failed step and a failed run begin with our own sentence. The traceback stays in the error, which the UI folds.
- A cancelled step has one line instead of the stack of the interrupt.
- A step that did not run because another one failed is no error of its own.
"""

from __future__ import annotations

import logging

from dagster import DagsterEvent, DagsterEventType, DagsterExecutionInterruptedError, EventLogEntry, Failure
from dagster._core.events import JobCanceledData, StepFailureData
from dagster_shared.error import SerializableErrorInfo

INTERRUPTS = {DagsterExecutionInterruptedError.__name__, KeyboardInterrupt.__name__}

CANCELLED = "The run was cancelled. Windows that were committed before stay synced, and the others are as they were."

NOT_EXECUTED = ("Dependencies for step ", " Not executing.")


def readable(entry: EventLogEntry) -> EventLogEntry:
    """The entry, with a message that a person understands."""
    event = entry.dagster_event
    if event is None:
        return _not_run(entry)
    kind = event.event_type
    if kind == DagsterEventType.STEP_FAILURE:
        return entry._replace(dagster_event=_failed_step(event))
    if kind == DagsterEventType.RUN_FAILURE:
        return entry._replace(dagster_event=_failed_run(event))
    if kind == DagsterEventType.RUN_CANCELED:
        return entry._replace(dagster_event=event._replace(event_specific_data=JobCanceledData(None)))
    return entry


def _not_run(entry: EventLogEntry) -> EventLogEntry:
    """Dagster logs a step that is not executed as an error, beside that of the step which failed."""
    begins, ends = NOT_EXECUTED
    if not (entry.user_message.startswith(begins) and entry.user_message.endswith(ends)):
        return entry
    return entry._replace(
        level=logging.INFO, user_message="Not run, because an asset that it is computed from failed in this run."
    )


def _root_cause(error: SerializableErrorInfo) -> SerializableErrorInfo:
    while error.cause is not None:
        error = error.cause
    return error


def _sentence(error: SerializableErrorInfo) -> str:
    """What failed, on one line: the text of our own failure, else that of the root cause, without its class."""
    text = (error if error.cls_name == Failure.__name__ else _root_cause(error)).message.strip()
    name, separator, rest = text.partition(": ")
    line = rest if separator and " " not in name else text
    return next((part.strip() for part in line.splitlines() if part.strip()), text)


def _failed_step(event: DagsterEvent) -> DagsterEvent:
    found = event.step_failure_data
    if found.error is None:
        return event
    cause = _root_cause(found.error)
    if cause.cls_name in INTERRUPTS:
        error = SerializableErrorInfo(CANCELLED, [], cause.cls_name)
        cancelled = StepFailureData(error, found.user_failure_data, found.error_source)
        return event._replace(message=CANCELLED, event_specific_data=cancelled)
    return event._replace(message=_sentence(found.error))


def _failed_run(event: DagsterEvent) -> DagsterEvent:
    first = event.job_failure_data.first_step_failure_event
    error = (first.step_failure_data.error if first is not None else None) or event.job_failure_data.error
    if error is None:
        return event
    return event._replace(message=f"{_sentence(error)} {event.message or ''}".strip())
