"""Work items of worklists that the gateway claimed."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "claims",
        sa.Column("claim", sa.String(64), nullable=False),
        sa.Column("worklist", sa.String(), nullable=False),
        sa.Column("stage", sa.String(16), nullable=False),
        sa.Column("began", _TIME, nullable=False),
        sa.Column("ended", _TIME),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("claim", name="pk_claims"),
    )
    op.create_index("ix_claims_worklist_stage", "claims", ["worklist", "stage"])
    op.create_index("ix_claims_ended", "claims", ["ended"])
