"""Answers, feedback and claims."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_JSON = sa.JSON().with_variant(JSONB(), "postgresql")
_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "results",
        sa.Column("result_id", sa.Uuid(), nullable=False),
        sa.Column("time", _TIME, nullable=False),
        sa.Column("endpoint", sa.String(), nullable=False),
        sa.Column("role", sa.String(), nullable=False),
        sa.Column("request_id", sa.String(), nullable=False),
        sa.Column("caller", sa.String(), nullable=False),
        sa.Column("model_name", sa.String(), nullable=False),
        sa.Column("model_version", sa.String(), nullable=False),
        sa.Column("manifest_digest", sa.String(), nullable=False),
        sa.Column("key_id", sa.String(), nullable=False),
        sa.Column("patient", sa.String(64)),
        sa.Column("study", sa.String(64)),
        sa.Column("reference", sa.String(64)),
        sa.Column("input_digests", _JSON, nullable=False),
        sa.Column("findings", _JSON, nullable=False),
        sa.Column("refer_reasons", _JSON, nullable=False),
        sa.Column("latencies_ms", _JSON, nullable=False),
        sa.PrimaryKeyConstraint("result_id", name="pk_results"),
    )
    for column in ("time", "patient", "study", "reference"):
        op.create_index(f"ix_results_{column}", "results", [column])
    op.create_index("ix_results_model_name_model_version", "results", ["model_name", "model_version"])
    op.create_table(
        "feedback",
        sa.Column("feedback_id", sa.Uuid(), nullable=False),
        sa.Column("finding", sa.String(), nullable=False),
        sa.Column("result_id", sa.Uuid(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("time", _TIME, nullable=False),
        sa.Column("caller", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("feedback_id", "finding", name="pk_feedback"),
        sa.ForeignKeyConstraint(["result_id"], ["results.result_id"], name="fk_feedback_result_id", ondelete="CASCADE"),
        sa.CheckConstraint("state IN ('present', 'absent', 'unknown')", name="ck_feedback_state"),
    )
    op.create_index("ix_feedback_result_id", "feedback", ["result_id"])
    op.create_table(
        "claims",
        sa.Column("key", sa.String(64), nullable=False),
        sa.Column("key_id", sa.String(), nullable=False),
        sa.Column("body", sa.String(64), nullable=False),
        sa.Column("owner", sa.Uuid(), nullable=False),
        sa.Column("expires", _TIME, nullable=False),
        sa.Column("answer", sa.LargeBinary()),
        sa.Column("result_id", sa.Uuid()),
        sa.PrimaryKeyConstraint("key", name="pk_claims"),
        sa.ForeignKeyConstraint(["result_id"], ["results.result_id"], name="fk_claims_result_id", ondelete="CASCADE"),
    )
    op.create_index("ix_claims_expires", "claims", ["expires"])
    op.create_index("ix_claims_result_id", "claims", ["result_id"])
