"""The gateway between the hospital's systems (DICOM, HL7 v2, FHIR) and the service. It knows no model."""
