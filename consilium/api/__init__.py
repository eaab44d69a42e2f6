"""The HTTP interface as types: `schemas`, the `client`, and answers read back as a Diagnosis."""
