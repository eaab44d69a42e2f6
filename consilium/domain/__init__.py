"""The terms of the field, as types: studies, findings, variables, diagnoses, errors. Imports no framework."""
