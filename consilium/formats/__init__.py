"""How numbers, times, units, demographics and DICOM files are written, and how they are read from hostile input."""
