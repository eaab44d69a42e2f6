"""A real archive keeps the images: what it gives back is the image that the model read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from service.audit_log.pseudonyms import make_keys
from tests.consilium.formats.dicom.dicom_files import ramp
from tests.orthanc import Orthanc
from tests.service.app.test_routes import Client, refused, serve
from tests.service.fakes import FakeModel
from tests.service.studies.test_archive_pixels import UIDS
from tests.service.studies.test_studies import PATH, ended, film, form, submitted


def test_an_image_is_shown_while_the_archive_has_it(
    orthanc: Orthanc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONSILIUM_HOME", str(tmp_path))
    make_keys(tmp_path / "audit-log.keys")
    sent = film(**UIDS)

    async def scenario(client: Client, _: FakeModel) -> None:
        study = await submitted(client, form(sent))
        assert [view.pixels for view in (await ended(client, study)).images] == ["pacs"]
        address = f"{PATH}/{study.study_id}/images/0"
        assert refused(await client.get(address), 404)["type"].endswith(":not-in-archive")
        orthanc.upload(sent)
        answer = await client.get(address)
        assert answer.status_code == 200, answer.text
        np.testing.assert_array_equal(np.frombuffer(answer.content, "<u2").reshape(48, 64), ramp())
        orthanc.clear()
        orthanc.upload(film(**UIDS, PatientID="Zq18"))
        assert refused(await client.get(address), 409)["type"].endswith(":other-patient")

    serve(scenario, studies=True, studies_pacs_url=orthanc.dicomweb)
