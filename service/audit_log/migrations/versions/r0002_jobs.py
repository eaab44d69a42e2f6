"""Jobs, their studies and what those consist of."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "jobs",
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("caller", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("submitted", _TIME, nullable=False),
        sa.Column("ended", _TIME),
        sa.Column("expires", _TIME, nullable=False),
        sa.Column("owner", sa.Uuid()),
        sa.Column("lease", _TIME),
        sa.Column("losses", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("job_id", name="pk_jobs"),
        sa.CheckConstraint("kind IN ('diagnose', 'explain')", name="ck_jobs_kind"),
        sa.CheckConstraint(
            "state IN ('receiving', 'queued', 'running', 'done', 'failed', 'cancelled')", name="ck_jobs_state"
        ),
    )
    op.create_index("ix_jobs_caller", "jobs", ["caller"])
    op.create_index("ix_jobs_expires", "jobs", ["expires"])
    op.create_index("ix_jobs_state_submitted", "jobs", ["state", "submitted"])
    op.create_table(
        "job_studies",
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("study", sa.Integer(), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("status", sa.Integer()),
        sa.Column("answer", sa.LargeBinary()),
        sa.PrimaryKeyConstraint("job_id", "study", name="pk_job_studies"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.job_id"], name="fk_job_studies_job_id", ondelete="CASCADE"),
    )
    op.create_table(
        "job_inputs",
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("study", sa.Integer(), nullable=False),
        sa.Column("chunk", sa.Integer(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("job_id", "study", "chunk", name="pk_job_inputs"),
        sa.ForeignKeyConstraint(
            ["job_id", "study"],
            ["job_studies.job_id", "job_studies.study"],
            name="fk_job_inputs_job_id",
            ondelete="CASCADE",
        ),
    )
