"""Records, messages, aliases, studies, revisions, the outbox, positions."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_JSON = sa.JSON().with_variant(JSONB(), "postgresql")
_TIME = sa.DateTime(timezone=True)
_DIGEST = sa.String(64)


def upgrade() -> None:
    _received()
    _studies()
    _outbox()
    op.create_table(
        "positions",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("value", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_positions"),
    )


def _received() -> None:
    op.create_table(
        "records",
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("key", _DIGEST, nullable=False),
        sa.Column("version", _DIGEST, nullable=False),
        sa.Column("patient", _DIGEST),
        sa.Column("accession", _DIGEST),
        sa.Column("study", _DIGEST),
        sa.Column("issued", _TIME, nullable=False),
        sa.Column("received", _TIME, nullable=False),
        sa.Column("handled", sa.Boolean(), nullable=False),
        sa.Column("file", sa.String(32)),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_records"),
        sa.UniqueConstraint("kind", "key", "version", name="uq_records_version"),
        sa.UniqueConstraint("file", name="uq_records_file"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_records_kind_patient", "records", ["kind", "patient"])
    op.create_index("ix_records_study_kind", "records", ["study", "kind"])
    op.create_index("ix_records_accession", "records", ["accession"])
    op.create_index("ix_records_handled_number", "records", ["handled", "number"])
    op.create_index("ix_records_received", "records", ["received"])
    op.create_table(
        "messages",
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("key", _DIGEST, nullable=False),
        sa.Column("protocol", sa.String(8), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("received", _TIME, nullable=False),
        sa.Column("problem", sa.String()),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_messages"),
        sa.UniqueConstraint("key", name="uq_messages_key"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_messages_received", "messages", ["received"])
    op.create_table(
        "aliases",
        sa.Column("goes", _DIGEST, nullable=False),
        sa.Column("stays", _DIGEST, nullable=False),
        sa.Column("time", _TIME, nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("goes", name="pk_aliases"),
    )
    op.create_index("ix_aliases_stays", "aliases", ["stays"])


def _studies() -> None:
    op.create_table(
        "studies",
        sa.Column("study", _DIGEST, nullable=False),
        sa.Column("patient", _DIGEST),
        sa.Column("accession", _DIGEST),
        sa.Column("stage", sa.String(16), nullable=False),
        sa.Column("due", _TIME),
        sa.Column("last", _TIME, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("study", name="pk_studies"),
        sa.CheckConstraint(
            "stage IN ('assembling', 'requested', 'answered', 'failed', 'ignored')", name="ck_studies_stage"
        ),
    )
    op.create_index("ix_studies_patient", "studies", ["patient"])
    op.create_index("ix_studies_accession", "studies", ["accession"])
    op.create_index("ix_studies_stage_due", "studies", ["stage", "due"])
    op.create_index("ix_studies_last", "studies", ["last"])
    op.create_table(
        "revisions",
        sa.Column("revision", _DIGEST, nullable=False),
        sa.Column("study", _DIGEST, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("time", _TIME, nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("revision", name="pk_revisions"),
        sa.UniqueConstraint("study", "number", name="uq_revisions_number"),
    )
    op.create_index("ix_revisions_time", "revisions", ["time"])


def _outbox() -> None:
    op.create_table(
        "outbox",
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("destination", sa.String(), nullable=False),
        sa.Column("key", _DIGEST, nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("stage", sa.String(16), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("created", _TIME, nullable=False),
        sa.Column("due", _TIME, nullable=False),
        sa.Column("ended", _TIME),
        sa.Column("problem", sa.String()),
        sa.Column("study", _DIGEST),
        sa.Column("revision", _DIGEST),
        sa.Column("after", _JSON, nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("content", sa.LargeBinary()),
        sa.PrimaryKeyConstraint("number", name="pk_outbox"),
        sa.UniqueConstraint("destination", "key", name="uq_outbox_key"),
        sa.CheckConstraint("stage IN ('waiting', 'sent', 'dead', 'dropped', 'superseded')", name="ck_outbox_stage"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_outbox_destination_stage_due", "outbox", ["destination", "stage", "due"])
    op.create_index("ix_outbox_ended", "outbox", ["ended"])
    op.create_index("ix_outbox_study", "outbox", ["study"])
