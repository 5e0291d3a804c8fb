"""HTML from templates, and how the values in it are shown."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import humanize
from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from mavedb_audit.pipelines import AnnotationType
from mavedb_audit.queries.accounts import Count
from mavedb_audit.web.assets import address_of
from mavedb_audit.web.estimates import seconds_left

FOLDER = Path(__file__).parent
_LABELS = {
    AnnotationType.VRS_MAPPING: "VRS mapping",
    AnnotationType.CLINGEN_ALLELE_ID: "ClinGen allele id",
    AnnotationType.MAPPED_HGVS: "Mapped HGVS",
    AnnotationType.VARIANT_TRANSLATION: "Protein translation",
    AnnotationType.GNOMAD_ALLELE_FREQUENCY: "gnomAD frequency",
    AnnotationType.CLINVAR_CONTROL: "ClinVar",
    AnnotationType.VEP_FUNCTIONAL_CONSEQUENCE: "VEP consequence",
    AnnotationType.LDH_SUBMISSION: "Linked Data Hub",
}
#: Each status of a pipeline, job, attempt or variant: its colour, and the sign that says the same.
_SIGNS = {
    "succeeded": ("ok", "✓"),
    "success": ("ok", "✓"),
    "failed": ("bad", "✕"),
    "errored": ("bad", "✕"),
    "crashed": ("bad", "✕"),
    "partial": ("warn", "◐"),
    "running": ("run", "●"),
    "queued": ("run", "○"),
    "paused": ("warn", "‖"),
    "cancelled": ("quiet", "⊘"),
    "skipped": ("quiet", "–"),
}
_NO_SIGN = ("quiet", "○")
#: The heading of a page that says what is wrong, and what can be done.
_ERRORS = {
    401: ("You are not signed in", "Sign in, then ask again."),
    403: (
        "You may not do this",
        "Whoever runs this service gives out tokens with the role that it needs.",
    ),
    404: (
        "There is nothing here",
        "Check the URN. Pipelines, jobs, score sets and variants each have one, such as"
        " urn:mavedb:00000001-a-1#17 of a variant; a new upload gives its variants new ones.",
    ),
    409: ("It cannot be done now", "Look at how it stands, then decide again."),
    503: (
        "Something that this page needs does not answer",
        "Nothing is lost: what runs goes on, and this page shows it once the answer comes.",
    ),
}
_OTHER_ERROR = ("This cannot be answered", "Go back, and ask for it in another way.")
_MINUTE, _HOUR, _DAY = 60, 3600, 86400


def annotation_label(annotation_type: str, version: str | None = None) -> str:
    """What people call an annotation, with the version of its source where it has one."""
    known = annotation_type in set(AnnotationType)
    label = _LABELS[AnnotationType(annotation_type)] if known else words(annotation_type)
    return f"{label} {version}" if version else label


def words(key: str) -> str:
    """A key of ours as words: not_found is "not found"."""
    return key.replace("_", " ")


def duration(seconds: float | None) -> str:
    """So many seconds in the two largest units: 3.2 s, 4 min 10 s, 2 h 5 min, 3 d 4 h."""
    if seconds is None:
        return ""
    if seconds < 9.95:
        return f"{max(seconds, 0):.1f} s"
    whole = round(seconds)
    if whole < _MINUTE:
        return f"{whole} s"
    if whole < _HOUR:
        return f"{whole // _MINUTE} min {whole % _MINUTE} s"
    if whole < _DAY:
        return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE} min"
    return f"{whole // _DAY} d {whole % _DAY // _HOUR} h"


def moment(at: datetime | None) -> Markup:
    """A time as a date and as how long ago it was, in UTC."""
    if at is None:
        return Markup()
    utc = at.astimezone(UTC)
    ago = humanize.naturaltime(datetime.now(UTC) - utc)
    return Markup('<time datetime="{}">{}</time> <span>{}</span>').format(
        utc.isoformat(timespec="seconds"), f"{utc:%-d %b %Y, %H:%M:%S} UTC", ago
    )


def state(status: str) -> Markup:
    """A status as a sign and a word in its colour."""
    colour, sign = _SIGNS.get(status, _NO_SIGN)
    return Markup(
        '<span class="state state-{}"><span aria-hidden="true">{}</span>{}</span>'
    ).format(colour, sign, status)


def in_path(urn: str) -> str:
    """A URN as a part of a path: it may hold # and more, and only its colons stay readable."""
    return quote(urn, safe=":")


def breakable(key: str) -> Markup:
    """A key that may break after its underscores, where a narrow page needs it."""
    return Markup("_<wbr>").join(key.split("_"))


def variants_query(count: Count) -> str:
    """The query of the page that lists the variants of a count."""
    asked = count.model_dump(include={"annotation_type", "version", "status", "reason"})
    return urlencode({name: value for name, value in asked.items() if value is not None})


def percent(part: int, whole: int) -> str:
    """A share, never rounded up to all or down to nothing."""
    if not whole:
        return ""
    share = 100 * part / whole
    if 0 < share < 0.1:
        return "< 0.1 %"
    if 99.9 < share < 100:
        return "> 99.9 %"
    return f"{share:.1f} %" if 0 < share < 100 else f"{share:.0f} %"


_ENVIRONMENT = Environment(
    loader=FileSystemLoader(FOLDER / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_ENVIRONMENT.filters |= {
    "breakable": breakable,
    "duration": duration,
    "in_path": in_path,
    "moment": moment,
    "number": humanize.intcomma,
    "pretty_json": lambda value: json.dumps(value, indent=2, ensure_ascii=False, default=str),
    "size": lambda number: humanize.naturalsize(number, binary=True),
    "state": state,
    "variants_query": variants_query,
    "words": words,
}
_ENVIRONMENT.globals |= {
    "address_of": address_of,
    "annotation_label": annotation_label,
    "percent": percent,
    "seconds_left": seconds_left,
}


def html_of(template: str, request: Request, **values: Any) -> str:
    """A template with its values, as HTML. Without a `caller` it shows no way to other pages."""
    base = request.scope.get("root_path", "")
    return _ENVIRONMENT.get_template(template).render(
        {"base": base, "request": request, "caller": None, **values}
    )


def macros_of(template: str) -> Any:
    """A template's macros, to be called as functions."""
    return _ENVIRONMENT.get_template(template).module


def page(
    template: str,
    request: Request,
    *,
    status_code: int = 200,
    headers: Mapping[str, str] | None = None,
    **values: Any,
) -> HTMLResponse:
    return HTMLResponse(html_of(template, request, **values), status_code, headers)


def error_page(
    request: Request, status_code: int, message: str, headers: Mapping[str, str] | None = None
) -> HTMLResponse:
    """What is wrong, for a person, and what can be done about it."""
    heading, advice = _ERRORS.get(status_code, _OTHER_ERROR)
    return page(
        "error.html",
        request,
        status_code=status_code,
        headers=headers,
        caller=getattr(request.state, "user", None),
        is_away=status_code == 503,
        heading=heading,
        message=message,
        advice=advice,
    )
