"""DICOM files: structure, header, pixel data and display. `modalities.image.dicom_image` ties them together."""
