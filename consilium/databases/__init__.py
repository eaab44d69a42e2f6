"""Databases of processes: `database` opens and migrates one, `columns` has what their tables share."""
