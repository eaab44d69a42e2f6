"""Stored studies by their answers."""

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_studies_result_id", "studies", ["result_id"])
