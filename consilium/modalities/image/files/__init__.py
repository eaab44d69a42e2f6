"""Bytes of image files become display values: DICOM, PNG, JPEG and TIFF."""
