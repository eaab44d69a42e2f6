"""Which process holds an idempotency key, so that those of a dead one can be freed."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("claims", sa.Column("process", sa.Uuid()))
