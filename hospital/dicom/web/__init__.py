"""DICOMweb: STOW-RS in and out, QIDO-RS and WADO-RS. Start with `stow_in`. Source: PS3.18."""
