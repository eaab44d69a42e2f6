"""Studies that are stored for readers, their words, views, reads and flags."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_TIME = sa.DateTime(timezone=True)
_JSON = sa.JSON().with_variant(JSONB(), "postgresql")


def upgrade() -> None:
    op.create_table(
        "studies",
        sa.Column("study_id", sa.Uuid(), nullable=False),
        sa.Column("reading_group", sa.String(), nullable=False),
        sa.Column("caller", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("submitted", _TIME, nullable=False),
        sa.Column("pixels_until", _TIME, nullable=False),
        sa.Column("expires", _TIME, nullable=False),
        sa.Column("owner", sa.Uuid()),
        sa.Column("lease", _TIME),
        sa.Column("losses", sa.Integer(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        *(sa.Column(name, sa.LargeBinary()) for name in ("summary", "contents", "outcome", "answer", "problem")),
        sa.Column("result_id", sa.Uuid()),
        sa.PrimaryKeyConstraint("study_id", name="pk_studies"),
        sa.CheckConstraint(
            "state IN ('receiving', 'queued', 'running', 'answered', 'refused')", name="ck_studies_state"
        ),
    )
    op.create_index("ix_studies_expires", "studies", ["expires"])
    op.create_index("ix_studies_pixels_until", "studies", ["pixels_until"])
    op.create_index("ix_studies_state_submitted", "studies", ["state", "submitted"])
    op.create_index("ix_studies_reading_group_submitted", "studies", ["reading_group", "submitted"])
    op.create_table(
        "study_chunks",
        sa.Column("study_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("chunk", sa.Integer(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("study_id", "name", "chunk", name="pk_study_chunks"),
        sa.ForeignKeyConstraint(
            ["study_id"], ["studies.study_id"], name="fk_study_chunks_study_id", ondelete="CASCADE"
        ),
    )
    _records()


def _records() -> None:
    op.create_table(
        "study_views",
        sa.Column("view_id", sa.Uuid(), nullable=False),
        sa.Column("study_id", sa.Uuid(), nullable=False),
        sa.Column("what", sa.String(), nullable=False),
        sa.Column("time", _TIME, nullable=False),
        sa.Column("caller", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("view_id", name="pk_study_views"),
    )
    op.create_index("ix_study_views_study_id_caller", "study_views", ["study_id", "caller"])
    op.create_index("ix_study_views_time_view_id", "study_views", ["time", "view_id"])
    op.create_table(
        "study_reads",
        sa.Column("read_id", sa.Uuid(), nullable=False),
        sa.Column("study_id", sa.Uuid(), nullable=False),
        sa.Column("result_id", sa.Uuid()),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("findings", _JSON, nullable=False),
        sa.Column("influenced", sa.Boolean(), nullable=False),
        sa.Column("time", _TIME, nullable=False),
        sa.Column("caller", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("read_id", name="pk_study_reads"),
        sa.CheckConstraint("kind IN ('first', 'revised')", name="ck_study_reads_kind"),
    )
    op.create_index("ix_study_reads_study_id", "study_reads", ["study_id"])
    op.create_index("ix_study_reads_time_read_id", "study_reads", ["time", "read_id"])
    op.create_table(
        "study_flags",
        sa.Column("flag_id", sa.Uuid(), nullable=False),
        sa.Column("study_id", sa.Uuid(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("finding", sa.String()),
        sa.Column("time", _TIME, nullable=False),
        sa.Column("caller", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("flag_id", name="pk_study_flags"),
        sa.CheckConstraint(
            "reason IN ('model_error', 'disagreement', 'wrong_patient', 'image_quality')", name="ck_study_flags_reason"
        ),
    )
    op.create_index("ix_study_flags_study_id", "study_flags", ["study_id"])
