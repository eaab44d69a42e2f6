"""A result as DICOM objects of the study that it is about: structured report, Secondary Capture, segmentation.

`source` reads what the images say of patient and study, `marks` holds what all objects have in common. Reports and
segmentations need highdicom, which the extra ``hospital`` brings.
"""
