"""The base of all that the read side answers with: on the command line, over HTTP, on the page."""

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel


class View(BaseModel):
    """Rows as people and programs read them, never changed once made.

    Keys are snake_case in JSON of the command line, and camelCase over HTTP, as MaveDB's own are.
    Times are in UTC, durations in seconds.
    """

    model_config = ConfigDict(
        frozen=True, alias_generator=to_camel, populate_by_name=True, from_attributes=True
    )
