"""Records become a Study.

Comes in: bytes of DICOM, PNG, JPEG or TIFF files; notes and observations as parsed JSON. Goes out:
`consilium.domain.study` types, or an `InputError` that names the field, the value and the rule. Everything here takes
its input for hostile.

Open `study_records` first: it builds the Study. Each modality reads its own records (`consilium.modalities`); image
files are read in the worker processes of `decode_pool`, because native codecs can crash and hang. `deidentify` is the
way into a cohort. NumPy only: a worker must start fast and stay small.
"""
