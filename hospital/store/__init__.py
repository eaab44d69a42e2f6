"""What the gateway holds: rows in a database, received bytes in sealed files. Start with `received`, the types."""
