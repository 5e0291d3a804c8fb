"""What all tables share: one metadata, how Python types map to PostgreSQL's, and defaults."""

from collections.abc import Iterable
from datetime import UTC, date, datetime
from typing import Any, ClassVar
from uuid import UUID, uuid4

from sqlalchemy import DateTime, Double, Uuid
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    """Strings are varchar without a length, times have a time zone, None in JSON is SQL NULL."""

    type_annotation_map: ClassVar[dict[Any, Any]] = {
        datetime: DateTime(timezone=True),
        float: Double(),
        dict[str, Any]: JSONB(none_as_null=True),
        UUID: Uuid(),
    }


def today() -> date:
    """The date in UTC."""
    return datetime.now(UTC).date()


def temporary_urn() -> str:
    """The URN of a record that is not published."""
    return f"tmp:{uuid4()}"


def one_of(column: str, values: Iterable[str]) -> str:
    """The condition of a CHECK constraint that admits these values."""
    return f"{column} IN ({', '.join(repr(str(value)) for value in values)})"


class Dated:
    """The two dates of most domain tables. The database has no default for them."""

    creation_date: Mapped[date] = mapped_column(default=today, sort_order=100)
    modification_date: Mapped[date] = mapped_column(default=today, onupdate=today, sort_order=101)
