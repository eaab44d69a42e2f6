"""What monitoring keeps of an answer; pseudonyms of accession numbers; where feedback came from, and how."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_JSON = sa.JSON().with_variant(JSONB(), "postgresql")


def upgrade() -> None:
    op.add_column("results", sa.Column("accession", sa.String(64)))
    op.create_index("ix_results_accession", "results", ["accession"])
    op.create_table(
        "monitoring",
        sa.Column("result_id", sa.Uuid(), nullable=False),
        sa.Column("referred", sa.Boolean(), nullable=False),
        sa.Column("present", _JSON, nullable=False),
        sa.Column("p_values", _JSON, nullable=False),
        sa.Column("projections", _JSON, nullable=False),
        sa.Column("categories", _JSON, nullable=False),
        sa.PrimaryKeyConstraint("result_id", name="pk_monitoring"),
        sa.ForeignKeyConstraint(
            ["result_id"], ["results.result_id"], name="fk_monitoring_result_id", ondelete="CASCADE"
        ),
    )
    op.add_column("feedback", sa.Column("source", sa.String(), nullable=False, server_default="feedback"))
    op.add_column("feedback", sa.Column("influenced", sa.Boolean()))
