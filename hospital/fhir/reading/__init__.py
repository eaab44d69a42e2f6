"""What FHIR servers hold of a patient becomes records of the store.

`polling.py` asks for the patients of open studies, `record_reader.py` for one of them; the others each turn one kind of
resource into records, by the fields that `resource_fields.py` reads.
"""
