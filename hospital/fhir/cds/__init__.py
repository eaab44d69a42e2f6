"""CDS Hooks 2.0: `cds_hooks` are the routes, `cds_tokens` who may call them, `cds_cards` what they answer."""
