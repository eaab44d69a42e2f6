"""The store's tables and their migrations, and what is read and written row by row: records, aliases, positions."""
