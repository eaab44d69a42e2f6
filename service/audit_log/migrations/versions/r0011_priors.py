"""Stored studies that are shown beside another one."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("studies", sa.Column("beside", sa.String(64)))
    op.create_index("ix_studies_beside", "studies", ["beside"])
