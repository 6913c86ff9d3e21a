"""Changes events of Dagster's log, so that they begin with what a person needs to know.

- The event of a failed step or run begins with one sentence. The traceback stays in the error, which the UI folds.
- The event of a cancelled step has one line instead of the stack trace of the interrupt.
- A step that did not run because another step failed is not logged as an error.

Alerts and the terminal show the same sentence: see `orchestration.step_errors`.
"""

from __future__ import annotations

import logging

from dagster import DagsterEvent, DagsterEventType, DagsterExecutionInterruptedError, EventLogEntry, Failure
from dagster._core.events import JobCanceledData, JobFailureData
from dagster._core.execution.plan.objects import StepFailureData
from dagster_shared.error import SerializableErrorInfo

INTERRUPTS = {DagsterExecutionInterruptedError.__name__, KeyboardInterrupt.__name__}

CANCELLED = "The run was cancelled. Windows that were committed before stay synced. All other windows are unchanged."

DIED = (
    "The process of the run ended before the run was complete. Windows that were committed before stay synced. A retry "
    "of the run, the sensor of missing windows, or the next `sync` requests the missing windows."
)
MARKED_AS_FAILED = "This run has been marked as failed from outside the execution context."
"""Dagster's message if it knows nothing but that the process has ended."""

NOT_EXECUTED = ("Dependencies for step ", " Not executing.")


def readable(entry: EventLogEntry) -> EventLogEntry:
    """The entry, with a message that a person understands."""
    event = entry.dagster_event
    if event is None:
        return _not_run(entry)
    if event.event_type == DagsterEventType.RUN_FAILURE and event.message == MARKED_AS_FAILED:
        return entry._replace(dagster_event=event._replace(message=DIED))
    if event.event_specific_data is None and event.event_type != DagsterEventType.RUN_CANCELED:
        return entry  # reported by another process, with a message of its own
    kind = event.event_type
    if kind == DagsterEventType.STEP_FAILURE:
        return entry._replace(dagster_event=_failed_step(event))
    if kind == DagsterEventType.RUN_FAILURE:
        return entry._replace(dagster_event=_failed_run(event))
    if kind == DagsterEventType.RUN_CANCELED:
        return entry._replace(dagster_event=event._replace(event_specific_data=JobCanceledData(None)))
    return entry


def is_about_step_not_run(message: str) -> bool:
    """Whether the message is Dagster's about a step that it did not execute. Dagster logs it as an error."""
    begins, ends = NOT_EXECUTED
    return message.startswith(begins) and message.endswith(ends)


def _not_run(entry: EventLogEntry) -> EventLogEntry:
    if not is_about_step_not_run(entry.user_message):
        return entry
    return entry._replace(
        level=logging.INFO, user_message="Not run, because a step that it depends on did not succeed in this run."
    )


def _root_cause(error: SerializableErrorInfo) -> SerializableErrorInfo:
    while error.cause is not None:
        error = error.cause
    return error


def _sentence(error: SerializableErrorInfo) -> str:
    """What failed, on one line: the text of a `Failure` or else of the root cause, without the name of the class."""
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
        cancelled = StepFailureData(error, found.user_failure_data, found.error_source)  # type: ignore[no-untyped-call]
        return event._replace(message=CANCELLED, event_specific_data=cancelled)
    sentence = _sentence(found.error)
    error = found.error
    if error.cls_name == Failure.__name__:
        # The stack of a `Failure` has only Dagster's code, so it is left out. If the cause has the same text, only the
        # stack of the cause is shown.
        is_same = error.cause is cause and _sentence(cause) in sentence
        stack, rest = (cause.stack, None) if is_same else ([], error.cause)
        # The UI writes the stack directly after the message, so the message ends with a line break.
        error = SerializableErrorInfo(f"{sentence}\n", stack, error.cls_name, rest)
    failure = StepFailureData(error, found.user_failure_data, found.error_source)  # type: ignore[no-untyped-call]
    return event._replace(message=sentence, event_specific_data=failure)


def _failed_run(event: DagsterEvent) -> DagsterEvent:
    found = event.job_failure_data
    first = found.first_step_failure_event
    error = (first.step_failure_data.error if first is not None else None) or found.error
    if error is None:
        return event
    # The event of a failed step already contains its error.
    kept = found if first is None else JobFailureData(None, found.failure_reason, first)
    return event._replace(message=f"{_sentence(error)} {event.message or ''}".strip(), event_specific_data=kept)
