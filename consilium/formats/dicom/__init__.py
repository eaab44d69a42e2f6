"""DICOM files: structure, header, pixels, display. `consilium.modalities.image.files.dicom_image` combines them."""
