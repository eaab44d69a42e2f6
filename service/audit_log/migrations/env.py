"""Alembic's entry: migrates the connection that `service.audit_log.database` hands over, in its transaction."""

from alembic import context

from service.audit_log.tables import Base

context.configure(connection=context.config.attributes["connection"], target_metadata=Base.metadata)
context.run_migrations()
