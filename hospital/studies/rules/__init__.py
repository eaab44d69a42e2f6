"""What decides about a study, without a store and without a network: records in, decisions out."""
