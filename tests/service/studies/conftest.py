"""The audit log's databases, SQLite and PostgreSQL, for stored studies."""

from tests.service.audit_log.conftest import cluster, key_file, keys, store, url

__all__ = ["cluster", "key_file", "keys", "store", "url"]
