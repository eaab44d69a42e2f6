"""HTTP routes that the configuration adds to those of every gateway: STOW-RS in, CDS Hooks, SMART launch."""
