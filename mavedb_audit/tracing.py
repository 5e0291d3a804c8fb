"""Traces of dispatches, steps and requests, for OpenTelemetry, where somebody collects them.

With OTEL_EXPORTER_OTLP_ENDPOINT set, spans go there over HTTP, as OpenTelemetry's own variables
say. Without it nothing is loaded, and nothing costs. A pipeline's spans are of several processes
and hours: they are found by the attribute `correlation_id`, which all have that its logs have.
"""

import functools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import structlog

from mavedb_audit.errors import ConfigurationError

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"


@contextmanager
def span(name: str, **attributes: str | int) -> Iterator[None]:
    """Meanwhile a span of this name runs, with what each log line of this context says, too.

    An error that ends it is recorded in it. Raises ConfigurationError when the variable is set and
    the extra `otel` is not installed.
    """
    tracer = _tracer()
    if tracer is None:
        yield
        return
    known = {**structlog.contextvars.get_contextvars(), **attributes}
    with tracer.start_as_current_span(name, attributes=known):
        yield


def mark_failed(why: str) -> None:
    """Let the span that runs end as failed, for what is no error of its code's."""
    if _tracer() is not None:
        from opentelemetry.trace import StatusCode, get_current_span

        get_current_span().set_status(StatusCode.ERROR, why)


@functools.cache
def _tracer() -> "Tracer | None":
    """This process's, whose spans are sent in batches and when the process ends."""
    if not os.environ.get(ENDPOINT):
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise ConfigurationError(
            f"{ENDPOINT} is set, and traces need the extra otel: `pip install 'mavedb-audit[otel]'`"
        ) from error
    # Of our own, beside one that a process may have set up for everything in it.
    provider = TracerProvider(resource=Resource.create({"service.name": "mavedb-audit"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider.get_tracer("mavedb_audit")
