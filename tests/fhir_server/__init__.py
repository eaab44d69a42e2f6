"""A FHIR server that is not ours: Medplum's router over a repository in memory, from a lock file, on Node."""
