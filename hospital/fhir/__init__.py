"""FHIR R4 in and out, CDS Hooks and SMART launch. Resources become records of `hospital.store.received`."""
