"""Searches for priors of studies."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "prior_searches",
        sa.Column("study", sa.String(64), nullable=False),
        sa.Column("due", _TIME),
        sa.Column("until", _TIME, nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("study", name="pk_prior_searches"),
    )
    op.create_index("ix_prior_searches_due", "prior_searches", ["due"])
    op.create_index("ix_prior_searches_until", "prior_searches", ["until"])
