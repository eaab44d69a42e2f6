"""The phantom's radiographs: anatomy, lesions, detector, DICOM."""
