"""What was answered beside the findings."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_JSON = sa.JSON().with_variant(JSONB(), "postgresql")


def upgrade() -> None:
    for name in ("grades", "survival"):
        op.add_column("results", sa.Column(name, _JSON, nullable=False, server_default="[]"))
