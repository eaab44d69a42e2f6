"""Settings of the studies that are stored for readers."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, SecretStr

from service.page_settings import PageAddress, PageSettings

_DAY_S = 86_400.0
Seconds = Annotated[float, Field(gt=0)]


class StudySettings(PageSettings):
    """What is stored for readers where ``CONSILIUM_STUDIES`` is set, for how long, and when they see the answer."""

    studies_ttl_s: Seconds = 30 * _DAY_S
    """How long a study is stored; then it is deleted. Reads, flags and views stay."""
    studies_pixels_s: Seconds = 7 * _DAY_S
    """How long its images are; they go with the study at the latest."""
    studies_bytes: Annotated[int, Field(gt=0)] = 16 << 30
    """What all stored studies may take in the database, seals aside. Over it: 503."""
    studies_pacs_url: PageAddress | None = None
    """DICOMweb root of an archive: ``https://pacs.example.org/dicom-web``. Where it is set, the images of DICOM files
    are not stored but fetched from there (WADO-RS) whenever a reader looks at them, and shown only where their words
    are those that the model read. None: they are stored."""
    studies_pacs_token: SecretStr | None = None
    """Bearer token for it."""
    studies_pacs_timeout_s: Seconds = 20.0
    """What one image may take from there, further attempts included."""
    studies_answer: Literal["after_first_read", "on_demand", "at_once"] = "after_first_read"
    """When a reader sees the model's answer: once he has recorded what he sees himself; when he asks for it, which is
    recorded; or at once."""
    studies_priority: bool = False
    """Show the highest probability of a study as its priority in the worklist, which also tells what the model
    thinks."""
    studies_compressed: bool = False
    """Send words as horizontal differences, compressed, to who accepts gzip: half of the bytes, at the price of time.
    For slow networks."""
