"""HL7 v2 in and out over MLLP. Messages become records of `hospital.store.received`."""
