"""Records become a Study.

Comes in: bytes of DICOM, PNG, JPEG or TIFF files; notes and observations as parsed JSON. Goes out: `consilium.study`
types, or an `InputError` that names the field, the value and the rule. Everything here takes its input for hostile.

Open `records` first: it builds the Study. `image` tells the kinds of files apart; `dicom` and `raster` read them, in
the worker processes of `decode_pool`, because native codecs can crash and hang. `notes`, `observations` and `units`
read the rest. `deidentify` is the way into a cohort. NumPy only: a worker must start fast and stay small.
"""
