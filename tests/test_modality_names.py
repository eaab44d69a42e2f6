"""No module outside the folders of the built-in modalities names one of them: what the rest needs, declarations say."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache

import pandas as pd
import pytest

from consilium.modalities.modality import Modality
from consilium.modalities.registry import default_context, modalities
from tests.conftest import ROOT
from training.cohorts.column_reader import CohortTables, column_readers
from training.modalities.observations.value_columns import VALUE

FOLDERS = ("consilium/modalities", "training/modalities", "training/cohorts/phantom")
"""Where each modality has a folder."""

EXCEPTIONS = {
    "consilium/modalities/registry.py": "it lists the built-in modalities, by reference",
    "consilium/cli/learning/weights.py": "the command for weights of image encoders",
    "consilium/cli/shared/dicom_results.py": "DICOM results are about the images of a study",
    "consilium/output/dicom/source.py": "likewise",
    "consilium/output/dicom/capture_picture.py": "likewise",
    "consilium/output/dicom/secondary_capture.py": "likewise",
    "consilium/output/dicom/segmentation.py": "likewise",
    "consilium/api/schemas/worklist.py": "an example of a request, for the documentation",
    "consilium/api/client/async_client.py": "the words of a stored study are those of its images by default",
    "consilium/api/client/clients.py": "likewise",
    "service/app/openapi_examples.py": "examples of requests and answers, for the documentation",
    "service/app/study_examples.py": "the same of stored studies",
    "training/cohorts/covid_chestxray.py": "the layout of one public cohort, which has images, notes and values",
    "training/cohorts/phantom/record.py": "streams of random numbers that are known by their position",
    "training/cohorts/phantom/schemes.py": "what a phantom's scheme consists of",
    "training/cohorts/phantom/interaction.py": "a scheme in which one modality depends on another",
    "training/cohorts/hannover_labs.py": "the layout of one public cohort, which has laboratory values",
    "training/experiments/fusion_comparison/transchex.py": "a published network of images and notes",
    "hospital/studies/answered_study.py": "a study was made when its earliest image was",
    "hospital/studies/assembly.py": "a hospital's images, values and notes are stored and matched each in its own way",
    "hospital/studies/asking/explanation_jobs.py": "a study is sent with its images",
    "hospital/studies/study_walk.py": "a study without an image is not asked about",
    "hospital/studies/wanted_priors.py": "a study was made when its earliest image was",
    "hospital/running/sources/prior_finder.py": "a prior is shown as its images",
    "hospital/studies/rules/completeness.py": "a study whose views are all there is complete",
    "hospital/running/hl7_parts.py": "a value that was sent before completes one that is sent again",
    "hospital/studies/dicom_results.py": "a capture shows the images, a segmentation the evidence in them",
    "hospital/studies/rules/configured_routes.py": "a study whose views are all there is complete",
    "hospital/studies/rules/matching.py": "values and notes belong to a study otherwise than orders do",
    "hospital/studies/rules/model_inputs.py": "what of a hospital's records the model reads",
    "hospital/studies/asking/study_request.py": "what DICOM, HL7 and FHIR bring are images, notes and observations",
    "hospital/configuration/route_settings.py": "a study may be complete when the views that a site wants are there",
    "hospital/running/reading_parts.py": "what is stored of a patient, by its kind",
    "hospital/fhir/smart/smart_launch.py": "the whole of a HumanName is called text",
    "hospital/fhir/results/bundle.py": "text is a key of FHIR's codes and notes",
    "hospital/fhir/results/result_values.py": "likewise",
    "hospital/terminology/site_tables.py": "which kinds of notes a site's documents may be",
    "hospital/fhir/reading/resource_fields.py": "a field of a CodeableConcept is called text",
    "training/audit/report.py": "the key of a concern's sentence is text",
}
"""Modules that may name a modality, and why."""


def _built_in() -> list[Modality]:
    return [modalities()[name] for name in ("image", "text", "observations", "ecg", "volume", "audio")]


def _names() -> set[str]:
    return {name for one in _built_in() for name in (one.name, *(given.name for given in one.inputs))}


@cache
def _columns() -> set[str]:
    """Columns and tables of a cohort's folder that hold their records."""
    readers = column_readers(CohortTables(ROOT, pd.DataFrame(columns=["study"]), {}, default_context()))
    own = [readers[one.name] for one in _built_in()]
    return {VALUE, *(name for reader in own for name in (*reader.columns(), *reader.other_tables))}


def _docstrings(tree: ast.AST) -> set[int]:
    """The nodes that are strings by themselves, which nothing reads."""
    return {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}


def named_in(source: str) -> Iterator[str]:
    """What `source` has of the built-in modalities: imports from their folders, their names, references, columns."""
    names, tree = _names(), ast.parse(source)
    folder = re.compile(r"\b(modalities|phantom)\.(image|text|observations|ecg|volume|audio)\b")
    ignored = _docstrings(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            yield from (f"{node.lineno}: import of {module}" for module in modules if folder.search(module))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in ignored:
            if node.value in names | _columns() or folder.search(node.value):
                yield f"{node.lineno}: {node.value!r}"
        elif isinstance(node, ast.keyword) and node.arg in names - {"text"}:
            yield f"{node.value.lineno}: {node.arg}="
        elif isinstance(node, ast.Attribute) and node.attr in names - {"text"}:
            yield f"{node.lineno}: .{node.attr}"


def _outside() -> list[str]:
    own = re.compile(f"({'|'.join(FOLDERS)})/(image|text|observations|ecg|volume|audio)/")
    files = [
        path.relative_to(ROOT)
        for package in ("consilium", "training", "service", "hospital")
        for path in (ROOT / package).rglob("*.py")
    ]
    return sorted(path.as_posix() for path in files if not own.match(path.as_posix()))


def test_no_module_outside_their_folders_names_a_modality() -> None:
    found = {
        path: names
        for path in _outside()
        if path not in EXCEPTIONS and (names := list(named_in((ROOT / path).read_text(encoding="utf-8"))))
    }
    assert found == {}


@pytest.mark.parametrize("path", sorted(EXCEPTIONS))
def test_every_exception_is_one(path: str) -> None:
    assert list(named_in((ROOT / path).read_text(encoding="utf-8"))), "names none any more: take it off the list"


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("from consilium.modalities.text.note import Note", ["1: import of consilium.modalities.text.note"]),
        ("import training.cohorts.phantom.image.masks", ["1: import of training.cohorts.phantom.image.masks"]),
        ("study.parts['image']", ["1: 'image'"]),
        ("load('training.modalities.image.odd_images:KINDS')", ["1: 'training.modalities.image.odd_images:KINDS'"]),
        ("study.images", ["1: .images"]),
        ("row['note_history']", ["1: 'note_history'"]),
        ("root / 'observations.csv'", ["1: 'observations.csv'"]),
        ("ask(notes=[])", ["1: notes="]),
        ("def f():\n    'observations'\n    return 'an image'", []),
        ("from consilium.modalities.part import Part", []),
    ],
)
def test_what_names_a_modality_is_found(source: str, found: list[str]) -> None:
    assert list(named_in(source)) == found
