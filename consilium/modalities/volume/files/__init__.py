"""Files of volumes: DICOM series, enhanced multi-frame objects, NIfTI, and the archives that hold them."""
