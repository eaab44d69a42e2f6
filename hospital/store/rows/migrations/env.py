"""Alembic's entry: migrates the connection that `consilium.databases.database` hands over, in its transaction."""

from alembic import context

from hospital.store.rows.tables import Base

context.configure(connection=context.config.attributes["connection"], target_metadata=Base.metadata)
context.run_migrations()
