"""Jobs whose studies are stored for a reading group, and indices of the worklist."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("reading_group", sa.String()))
    op.drop_index("ix_studies_reading_group_submitted", "studies")
    of_group = ["reading_group", "submitted", "study_id"]
    op.create_index("ix_studies_reading_group_submitted_study_id", "studies", of_group)
    op.create_index("ix_studies_submitted_study_id", "studies", ["submitted", "study_id"])
