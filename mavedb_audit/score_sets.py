"""The only writer of a score set's processing and mapping states and of their errors.

The sequence is MaveDB's: processing (at the request), processing + pending_variant_processing
(creation runs), success + queued, then processing and complete, incomplete or failed (mapping).
"""

import json
from collections.abc import Sequence

from sqlalchemy import Connection, text


def creation_began(connection: Connection, score_set_id: int, updater_id: int | None) -> None:
    connection.execute(
        text(
            """
            UPDATE scoresets
               SET processing_state = 'processing', mapping_state = 'pending_variant_processing',
                   modified_by_id = coalesce(:updater_id, modified_by_id)
             WHERE id = :score_set_id
            """
        ),
        {"score_set_id": score_set_id, "updater_id": updater_id},
    )


def creation_succeeded(
    connection: Connection,
    score_set_id: int,
    variant_count: int,
    dataset_columns: dict[str, object],
) -> None:
    connection.execute(
        text(
            """
            UPDATE scoresets
               SET processing_state = 'success', processing_errors = NULL,
                   mapping_state = 'queued', num_variants = :variant_count,
                   dataset_columns = CAST(:dataset_columns AS jsonb),
                   modification_date = CURRENT_DATE
             WHERE id = :score_set_id
            """
        ),
        {
            "score_set_id": score_set_id,
            "variant_count": variant_count,
            "dataset_columns": json.dumps(dataset_columns),
        },
    )


def creation_failed(
    connection: Connection, score_set_id: int, message: str, details: Sequence[str]
) -> None:
    """Variants that were there before stay, and the message says so."""
    connection.execute(
        text(
            """
            UPDATE scoresets
               SET processing_state = 'failed', mapping_state = 'not_attempted',
                   processing_errors = jsonb_build_object(
                       'exception',
                       CASE WHEN num_variants > 0
                            THEN 'The update failed, and the variants were not changed. ' ELSE ''
                       END || CAST(:message AS text),
                       'detail', CAST(:details AS jsonb))
             WHERE id = :score_set_id
            """
        ),
        {"score_set_id": score_set_id, "message": message, "details": json.dumps(list(details))},
    )


def mapping_began(connection: Connection, score_set_id: int, updater_id: int | None) -> None:
    connection.execute(
        text(
            """
            UPDATE scoresets
               SET mapping_state = 'processing', mapping_errors = NULL,
                   modified_by_id = coalesce(:updater_id, modified_by_id),
                   modification_date = CURRENT_DATE
             WHERE id = :score_set_id
            """
        ),
        {"score_set_id": score_set_id, "updater_id": updater_id},
    )


def mapping_succeeded(connection: Connection, score_set_id: int, *, complete: bool) -> None:
    connection.execute(
        text(
            """
            UPDATE scoresets SET mapping_state = :state, mapping_errors = NULL
             WHERE id = :score_set_id
            """
        ),
        {"score_set_id": score_set_id, "state": "complete" if complete else "incomplete"},
    )


def mapping_failed(connection: Connection, score_set_id: int, message: str) -> None:
    connection.execute(
        text(
            """
            UPDATE scoresets
               SET mapping_state = 'failed',
                   mapping_errors = jsonb_build_object('error_message', CAST(:message AS text))
             WHERE id = :score_set_id
            """
        ),
        {"score_set_id": score_set_id, "message": message},
    )


def mapping_not_attempted(connection: Connection, score_set_id: int) -> None:
    """A pipeline that ends before its mapping leaves no score set queued for it."""
    connection.execute(
        text(
            """
            UPDATE scoresets SET mapping_state = 'not_attempted'
             WHERE id = :score_set_id AND mapping_state IN ('queued', 'pending_variant_processing')
            """
        ),
        {"score_set_id": score_set_id},
    )
