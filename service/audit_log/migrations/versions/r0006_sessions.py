"""Sessions of the reading page, what happened at its entrance, and which answers of an issuer were taken."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_TIME = sa.DateTime(timezone=True)
_EVENTS = "event IN ('signed_in', 'refused', 'signed_out', 'replaced', 'revoked')"


def upgrade() -> None:
    op.create_table(
        "sessions",
        sa.Column("session_id", sa.Uuid(), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("caller", sa.String(), nullable=False),
        sa.Column("method", sa.String(), nullable=False),
        sa.Column("identity", sa.LargeBinary(), nullable=False),
        sa.Column("created", _TIME, nullable=False),
        sa.Column("seen", _TIME, nullable=False),
        sa.Column("ends", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("session_id", name="pk_sessions"),
    )
    op.create_index("ix_sessions_digest", "sessions", ["digest"], unique=True)
    op.create_index("ix_sessions_ends", "sessions", ["ends"])
    op.create_table(
        "sign_ins",
        sa.Column("event_id", sa.Uuid(), nullable=False),
        sa.Column("time", _TIME, nullable=False),
        sa.Column("event", sa.String(), nullable=False),
        sa.Column("method", sa.String(), nullable=False),
        sa.Column("caller", sa.String()),
        sa.Column("session_id", sa.Uuid()),
        sa.Column("actor", sa.String()),
        sa.Column("request_id", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("event_id", name="pk_sign_ins"),
        sa.CheckConstraint(_EVENTS, name="ck_sign_ins_event"),
    )
    op.create_index("ix_sign_ins_time", "sign_ins", ["time"])
    op.create_table(
        "spent_states",
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("expires", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("digest", name="pk_spent_states"),
    )
    op.create_index("ix_spent_states_expires", "spent_states", ["expires"])
