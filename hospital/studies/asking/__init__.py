"""The service is asked: a request of a study's records, sent as a job, and its answer."""
