"""The terms of the field, as types: studies, findings, variables, diagnoses, recipes, errors. Imports no framework."""
