"""Of stored studies a pseudonym of the patient; the service fills it in for those that are there: it has the keys."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("studies", sa.Column("patient", sa.String(64), nullable=False, server_default=""))
    op.create_index("ix_studies_patient_reading_group", "studies", ["patient", "reading_group"])
