"""Models that were loaded and refused."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "deployment_events",
        sa.Column("event_id", sa.Uuid(), nullable=False),
        sa.Column("time", sa.DateTime(timezone=True), nullable=False),
        *(
            sa.Column(name, sa.String(), nullable=False)
            for name in ("role", "event", "model_name", "model_version", "manifest_digest", "reason", "detail")
        ),
        sa.PrimaryKeyConstraint("event_id", name="pk_deployment_events"),
        sa.CheckConstraint("event IN ('loaded', 'removed', 'refused')", name="ck_deployment_events_event"),
    )
    op.create_index("ix_deployment_events_time", "deployment_events", ["time"])
