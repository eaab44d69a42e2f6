"""What a site's codes mean to a model: local codes, documents and issuers of identifiers; the same for HL7 and FHIR.

`tables.py` is what a site declares, `values.py` looks at one result by itself.
"""
