"""What is looked for again and again is found by an index, however long the history is."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_pipeline_requests_flow_run_id", "pipeline_requests", ["flow_run_id"])
    op.create_index(
        "ix_prefect_runs_crashed",
        "prefect_runs",
        ["state_timestamp"],
        postgresql_where=sa.text("state_type = 'CRASHED'"),
    )
    op.create_index(
        "ix_prefect_runs_unpruned",
        "prefect_runs",
        ["state_timestamp"],
        postgresql_where=sa.text("pruned_at IS NULL AND settled_at IS NOT NULL"),
    )
    op.create_index(
        "ix_job_attempts_with_traceback",
        "job_attempts",
        ["job_id"],
        postgresql_where=sa.text("error_traceback IS NOT NULL"),
    )
    op.create_index(
        "ix_planned_jobs_score_set_id_job_key",
        "planned_jobs",
        ["score_set_id", "job_key", "job_id"],
    )
    op.drop_index("ix_planned_jobs_score_set_id", "planned_jobs")


def downgrade() -> None:
    op.create_index("ix_planned_jobs_score_set_id", "planned_jobs", ["score_set_id"])
    op.drop_index("ix_planned_jobs_score_set_id_job_key", "planned_jobs")
    op.drop_index("ix_job_attempts_with_traceback", "job_attempts")
    op.drop_index("ix_prefect_runs_unpruned", "prefect_runs")
    op.drop_index("ix_prefect_runs_crashed", "prefect_runs")
    op.drop_index("ix_pipeline_requests_flow_run_id", "pipeline_requests")
