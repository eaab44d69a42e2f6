"""A time is one instant, however it is written, and whichever of the readers takes it."""

import time as clock
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consilium.domain.errors import InputError
from consilium.domain.study import Study, Window, instant_text
from consilium.formats.time_zone import TimeZone, site_zone
from consilium.formats.times import RULE, dicom_date_time, dicom_datetime, dicom_offset, read_time
from consilium.ingest.deidentify import deidentify_study
from consilium.ingest.study_records import in_zone, study_from_records
from consilium.modalities.image.files.dicom_image import read_dicom
from consilium.modalities.image.image_record import Image
from consilium.modalities.text.note import Note, NoteKind
from consilium.system.environment import Variable
from tests.consilium.formats.dicom.dicom_files import dicom_file, ramp

BERLIN = TimeZone("Europe/Berlin")
TWICE = "the clocks of Europe/Berlin show this time twice that day; the first is taken"
NEVER = "the clocks of Europe/Berlin leave this time out that day; it is taken as before the change"
INSTANTS = st.datetimes(datetime(1901, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)).map(
    lambda moment: moment.replace(microsecond=0)
)
OFFSETS = st.integers(-12 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))


def image(acquired: datetime | None) -> Image:
    return Image(np.arange(16, dtype=np.uint16).reshape(4, 4), "0", "png", acquired=acquired)


def crp(time: str) -> dict[str, object]:
    return {"code": "1988-5", "value": 12.0, "unit": "mg/L", "time": time}


@given(INSTANTS, OFFSETS, OFFSETS)
def test_an_instant_stays_whatever_the_offset_and_form_in_which_it_is_written(instant, offset, of_file):
    there = instant.astimezone(offset)
    ways = [
        there.isoformat(),
        there.isoformat(sep=" "),
        there.strftime("%Y%m%dT%H%M%S%z"),
        there.strftime("%Y-%m-%dT%H:%M:%S.000%z"),
        there.strftime("%Y-%m-%d %H:%M:%S %z"),
        instant.strftime("%Y-%m-%dT%H:%M:%SZ"),
        instant.strftime("%Y-%m-%dt%H:%M:%Sz"),
        there,
    ]
    read = {read_time(way, "time", BERLIN) for way in ways}
    read |= {read_time(dicom_datetime(there.strftime("%Y%m%d%H%M%S%z"), of_file), "time", BERLIN)}
    read |= {read_time(dicom_date_time(there.strftime("%Y%m%d"), there.strftime("%H%M%S"), offset), "time", BERLIN)}
    assert read == {(instant, ())}
    assert len({moment.isoformat() for moment, _ in read}) == 1
    assert dicom_offset(there.strftime("%z")) == offset


@given(INSTANTS, st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe"]))
def test_a_clock_without_an_offset_is_that_of_the_zone(instant, name):
    zone = TimeZone(name)
    shown = zone.local(instant).replace(tzinfo=None)
    read, warnings = read_time(shown.isoformat(), "time", zone)
    assert read.replace(tzinfo=None) == shown
    # Of the two instants at which the clock shows the same, the first is read.
    assert read == instant or (warnings and read < instant)


@pytest.mark.parametrize(
    ("written", "instant", "expected"),
    [
        ("2020-07-01T12:00:00", "2020-07-01T10:00:00+00:00", ()),
        ("2020-12-01T12:00", "2020-12-01T11:00:00+00:00", ()),
        ("2020-10-25T02:30:00", "2020-10-25T00:30:00+00:00", (f"time: {TWICE}",)),
        ("2020-10-25T02:30:00+01:00", "2020-10-25T01:30:00+00:00", ()),
        ("2020-10-25T03:00:00", "2020-10-25T02:00:00+00:00", ()),
        ("2020-03-29T02:30:00", "2020-03-29T01:30:00+00:00", (f"time: {NEVER}",)),
        ("2020-03-29T03:00:00", "2020-03-29T01:00:00+00:00", ()),
    ],
)
@pytest.mark.parametrize("named", [True, False])
def test_hour_that_a_clock_change_doubles_or_leaves_out_is_warned_of(monkeypatch, written, instant, expected, named):
    zone = BERLIN
    if not named:
        monkeypatch.setenv("TZ", "Europe/Berlin")
        clock.tzset()
        zone, expected = TimeZone(), tuple(one.replace("Europe/Berlin", "this computer") for one in expected)
    try:
        read, warnings = read_time(written, "time", zone)
    finally:
        monkeypatch.undo()
        clock.tzset()
    assert (instant_text(read), warnings) == (instant, expected)


@pytest.mark.parametrize(
    ("written", "instant"),
    [
        ("2020-02-29T24:00", "2020-03-01T00:00:00+01:00"),
        ("2020-12-31 24:00:00.000", "2021-01-01T00:00:00+01:00"),
        ("20200229T2400Z", "2020-03-01T01:00:00+01:00"),
        ("2016-12-31T23:59:60Z", "2017-01-01T00:59:59+01:00"),
        ("20170101T005960", "2017-01-01T00:59:59+01:00"),
        ("\t2020-03-01T10:00 ", "2020-03-01T10:00:00+01:00"),
    ],
)
def test_end_of_a_day_leap_seconds_and_blanks(written, instant):
    moment, warnings = read_time(written, "time", BERLIN)
    assert (moment and moment.isoformat(), warnings) == (instant, ())


@pytest.mark.parametrize(
    ("time", "clock"),
    [
        ("235960", "23:59:59"),
        ("101500.", "10:15:00"),
        ("101500.1234567", "10:15:00.123456"),
        ("101561", None),
        ("101599", None),
        ("2400", None),
    ],
)
def test_time_of_day_of_a_dicom_file(time, clock):
    for moment in (dicom_date_time("20200301", time), dicom_datetime(f"20200301{time}")):
        assert (moment and moment.time().isoformat()) == clock


@pytest.mark.parametrize("value", [None, "", "  "])
def test_no_time(value):
    assert read_time(value, "time", BERLIN) == (None, ())


@pytest.mark.parametrize(
    "value",
    [
        "2020-03-01",
        "noon",
        "1.3.2020 10:00",
        "2020-W09-7T10:00",
        "2020-03-01x10:00",
        "2020-03-01T25:00",
        "2020-03-01T24:01",
        "2020-03-01T24:00:00.5",
        "2020-02-30T10:00",
        "2020-03-01T10:00:61",
        "9999-12-31T24:00",
        "20200301",
        "2020-13-01T10:00",
        "２０２０-03-01T10:00",
        "2020-03-01T10:00+25:00",
        "2020-03-01T10:00+19:00",
        "2020-03-01T10:00-13:00",
        "2020-03-01T1_:00",
        "2020-03-01T10:00 CET",
        1583056800,
        True,
    ],
)
def test_what_is_no_time_is_refused(value):
    with pytest.raises(InputError) as refused:
        read_time(value, "time", BERLIN)
    assert (refused.value.field, refused.value.rule) == ("time", RULE)


@pytest.mark.parametrize("value", ["0001-01-01T00:00:00", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59"])
def test_times_at_the_ends_of_the_calendar_are_refused(value):
    with pytest.raises(InputError, match="must lie within the years 2 to 9998"):
        read_time(value, "time", BERLIN)


def test_zone_of_the_site(monkeypatch):
    monkeypatch.setenv(Variable.TIME_ZONE, "Asia/Tokyo")
    assert site_zone() == TimeZone("Asia/Tokyo")
    assert instant_text(read_time("2020-03-01T10:00", "time")[0]) == "2020-03-01T01:00:00+00:00"
    monkeypatch.delenv(Variable.TIME_ZONE)
    assert site_zone() == TimeZone()


@pytest.mark.parametrize("name", ["Berlin", "Europe", "../Europe/Berlin", "/etc/localtime", "CET+1", "UTC\0"])
def test_zone_that_does_not_exist_is_refused_by_its_variable(monkeypatch, name):
    with pytest.raises(InputError, match="time_zone"):
        TimeZone(name)
    if "\0" not in name:
        monkeypatch.setenv(Variable.TIME_ZONE, name)
        with pytest.raises(InputError, match=f"{Variable.TIME_ZONE}: got .*must be the name of a time zone"):
            site_zone()


@pytest.mark.parametrize(
    ("elements", "instant"),
    [
        ({"AcquisitionDateTime": "20200301202000+0300"}, "2020-03-01T17:20:00+00:00"),
        ({"AcquisitionDateTime": "20200301202000"}, "2020-03-01T19:20:00+00:00"),
        ({"AcquisitionDateTime": "20200301202000", "TimezoneOffsetFromUTC": "-0500"}, "2020-03-02T01:20:00+00:00"),
        ({"AcquisitionDateTime": "20200301202000+0300", "TimezoneOffsetFromUTC": "-0500"}, "2020-03-01T17:20:00+00:00"),
        ({"StudyDate": "20200301", "StudyTime": "2020", "TimezoneOffsetFromUTC": "+0530"}, "2020-03-01T14:50:00+00:00"),
        ({"StudyDate": "20200301", "StudyTime": "202000.5"}, "2020-03-01T19:20:00.500000+00:00"),
    ],
)
def test_instant_of_a_dicom_image(elements, instant):
    (parts, warnings) = in_zone({"image": [read_dicom(dicom_file(ramp(), **elements))]}, BERLIN)
    (read,) = parts["image"]
    assert (instant_text(read.time), warnings, read.warnings) == (instant, (), ())


@pytest.mark.parametrize(
    ("elements", "warnings"),
    [
        ({"TimezoneOffsetFromUTC": "CET"}, "TimezoneOffsetFromUTC is not used"),
        ({"TimezoneOffsetFromUTC": "+1900"}, "TimezoneOffsetFromUTC is not used"),
        ({"AcquisitionDateTime": "20200301202000+9900"}, "AcquisitionDateTime is not used"),
        ({"AcquisitionDateTime": "20200301 at noon"}, "AcquisitionDateTime is not used"),
        ({"ContentDate": "20200399", "ContentTime": "1000"}, "ContentDate and ContentTime are not used"),
    ],
)
def test_time_that_a_file_states_and_that_cannot_be_read_is_warned_of(elements, warnings):
    read = read_dicom(dicom_file(ramp(), **{"StudyDate": "20200301", "StudyTime": "1000", **elements}))
    assert read.acquired == datetime(2020, 3, 1, 10)
    assert [warning for warning in read.warnings if warning.startswith(warnings)]
    assert f"images[0].{read.warnings[0]}" in study_from_records(images=[read]).warnings


def test_time_of_an_image_that_cannot_be_placed_is_left_out_with_a_warning():
    study = study_from_records(images=[image(datetime(1, 1, 1))])
    assert study.parts["image"][0].acquired is None
    assert "images[0].acquired is not used: must lie within the years 2 to 9998" in study.warnings


def test_doubtful_hours_reach_the_reader():
    study = study_from_records(
        images=[image(datetime(2020, 10, 25, 2, 30))],
        notes=[{"kind": "history", "text": "x", "time": "2020-10-25T02:15:00"}],
        observations=[crp("2020-10-25T02:20:00")],
        reference_time="2020-10-25T02:45:00",
        zone=BERLIN,
    )
    places = ("notes[0].time", "observations[0].time", "images[0].acquired", "reference_time")
    assert [warning for warning in study.warnings if TWICE in warning] == [f"{place}: {TWICE}" for place in places]


@pytest.mark.parametrize(
    ("acquired", "zone", "value", "kept"),
    [
        # Taken at 20:20 in a zone three hours ahead of UTC; the value 70 minutes later by UTC's clock.
        ("20200301202000+0300", "UTC", "2020-03-01T18:30:00", False),
        ("20200301202000+0300", "UTC", "2020-03-01T17:10:00", True),
        ("20200301202000+0300", "Europe/Moscow", "2020-03-01T21:30:00", False),
        # Taken at 12:00 UTC; the value 20 minutes earlier by a clock an hour ahead.
        ("20200301120000+0000", "UTC", "2020-03-01T12:40:00+01:00", True),
        ("20200301120000", "UTC", "2020-03-01T12:40:00+01:00", True),
        ("20200301120000+0000", "America/New_York", "2020-03-01T06:40:00", True),
        ("20200301120000", "America/New_York", "2020-03-01T16:40:00Z", True),
        ("20200301120000", "America/New_York", "2020-03-01T17:20:00Z", False),
        # Both in the hour that comes twice, once by summer time and once by winter time.
        ("20201025023000+0200", "Europe/Berlin", "2020-10-25T02:15:00+01:00", False),
        ("20201025023000+0100", "Europe/Berlin", "2020-10-25T02:45:00+02:00", True),
    ],
)
def test_only_what_was_known_at_the_time_of_the_image_is_kept(acquired, zone, value, kept):
    file = read_dicom(dicom_file(ramp(), AcquisitionDateTime=acquired))
    study = study_from_records(images=[file], observations=[crp(value)], zone=TimeZone(zone)).within(Window())
    assert len(study.parts["observations"]) == kept
    assert any("recorded after the window" in warning for warning in study.warnings) is not kept


def test_a_day_of_25_hours_has_25():
    def taken(time: str) -> Study:
        return study_from_records(observations=[crp(time)], reference_time="2020-10-25T12:00", zone=BERLIN)

    assert taken("2020-10-24T12:00").within(Window(before_hours=25)).parts["observations"]
    assert not taken("2020-10-24T12:00").within(Window(before_hours=24.9)).parts["observations"]


def test_digests_are_those_of_the_instants():
    ways = ("2020-03-01T10:00:00+01:00", "2020-03-01T09:00:00Z", "2020-03-01T10:00:00")
    digests = {study_from_records(observations=[crp(way)], zone=BERLIN).input_digests()["observations"] for way in ways}
    assert len(digests) == 1
    other = study_from_records(observations=[crp("2020-03-01T10:00:01")], zone=BERLIN).input_digests()["observations"]
    assert other not in digests


def test_a_study_takes_no_time_without_an_offset():
    with pytest.raises(ValueError, match="offset from UTC"):
        Study({"text": (Note(NoteKind.HISTORY, "x", datetime(2020, 3, 1)),)})


def test_intervals_stay_when_days_are_moved_over_a_clock_change():
    study = study_from_records(
        observations=[crp("2020-07-01T08:00")], reference_time="2020-07-01T10:00", patient_id="MRN-1", zone=BERLIN
    )
    moved = [deidentify_study(study, key=bytes([k]) * 16, zone=BERLIN) for k in range(20)]
    assert {one.reference_time - one.parts["observations"][0].time for one in moved} == {timedelta(hours=2)}
    # The offset is that of the new day: it does not tell that the old one was in summer.
    assert all(one.reference_time == BERLIN.local(one.reference_time) for one in moved)
    assert {one.reference_time.utcoffset() for one in moved} == {timedelta(hours=1), timedelta(hours=2)}
