"""`consilium pretrain`, `probe`, `index` and `search`: encoders without labels, what they can do, and similar cases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from consilium.cli.diagnose import decode, read_study
from consilium.cli.learning.train import CohortFolder, counted
from consilium.cli.shared.console import (
    AsJson,
    lines_of,
    log_to_terminal,
    make_room,
    progress_bar,
    show,
    show_json,
    table_of,
)
from consilium.cli.shared.study_options import split_files, takes_study
from consilium.domain.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

Encoders = Annotated[
    str, typer.Argument(help="Folder of encoders, models:/consilium-encoders-NAME@ALIAS or .../VERSION.")
]


def add_to(app: typer.Typer) -> None:
    app.command(epilog="Example: consilium pretrain phantom-reports --cohort var/phantom")(pretrain)
    app.command(epilog="Example: consilium probe models:/consilium-encoders-phantom-reports@challenger --cohort mine")(
        probe
    )
    encoders = "models:/consilium-encoders-chest@challenger"
    app.command("index", epilog=f"Example: consilium index {encoders} --cohort mine --out var/index")(make_index)
    query = "--image chest.dcm --note 'indication=fever and cough'"
    app.command(epilog=f"Example: consilium search var/index {query}")(search)


def pretrain(
    recipe: Annotated[str, typer.Argument(help="Name of a packaged recipe, or a YAML file, with pretraining.")],
    cohort: CohortFolder,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a key of the recipe; repeatable.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an interrupted pretraining of the same.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Pretrain the encoders of a recipe without labels, audit them, and register them as challenger.

    A recipe names them as weights: `--set modalities.image.weights=models:/consilium-encoders-NAME@challenger`.
    """
    log_to_terminal()
    from training.recipes import find_recipe

    chosen = find_recipe(recipe, settings or [])
    from training.pretraining.encoder_card import means_alone
    from training.pretraining.measured import TITLES
    from training.pretraining.pretrain import pretrain as pretrain_recipe

    made = pretrain_recipe(chosen, cohort, resume=resume)
    if as_json:
        document = {"encoders": made.uri, "run_id": made.run_id, "folder": str(made.folder)}
        tables = {name: lines_of(table) for name, table in made.tables.items()}
        show_json(document | {"audit": made.audit.to_json(), **tables})
        return
    show(*_tables({"Retrieval": made.audit.retrieval, "Similarity": made.audit.similarity}))
    show(*_tables({TITLES[name]: means_alone(table) for name, table in made.tables.items()}))
    show(
        f"audit: {made.audit.verdict}",
        f"registered: {made.uri}, now challenger",
        f"start from them: consilium train {recipe} --cohort {cohort} --set modalities.MODALITY.weights={made.uri}",
    )


def probe(
    encoders: Encoders,
    cohort: CohortFolder,
    prompts: Annotated[
        Path | None,
        typer.Option(help="YAML file of prompts: {FINDING: {present: [...], absent: [...]}}; else cohort.yaml's."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the tables (CSV).")] = None,
    as_json: AsJson = False,
) -> None:
    """Measure pretrained encoders with no labels, and with few: zero-shot, few-shot, linear probes.

    On the test split; labels are taken from the training split, probabilities are calibrated on the calibration split.
    """
    log_to_terminal()
    make_room(out, folder=True)
    from training.cohorts.manifest_description import read_prompts
    from training.pretraining.encoder_card import means_alone
    from training.pretraining.measured import TITLES, measure_encoders

    asked = None if prompts is None else read_prompts(prompts)
    tables = measure_encoders(encoders, cohort, prompts=asked)
    if out is not None:
        for name, table in tables.items():
            table.to_csv(out / f"{name}.csv", index=False)
    if as_json:
        show_json({name: lines_of(table) for name, table in tables.items()})
        return
    show(*_tables({TITLES[name]: means_alone(table) for name, table in tables.items()}))


def _tables(tables: Mapping[str, pd.DataFrame]) -> list[Table]:
    return [table_of(title, lines_of(table)) for title, table in tables.items() if not table.empty]


def make_index(
    encoders: Encoders,
    cohort: CohortFolder,
    out: Annotated[Path, typer.Option(help="Folder to write; must not exist.")],
) -> None:
    """Index a cohort for `consilium search`: every study, and every sentence of its notes.

    The index holds the sentences as they stand in the cohort, masked as its notes are: guard it like the cohort.
    """
    log_to_terminal()
    from training.pretraining.indexing import index_cohort

    with progress_bar("files") as done:
        index = index_cohort(encoders, cohort, out, advance=counted(done))
    show(
        f"{len(index.cases)} cases and {len(index.sentences)} different sentences in {out}",
        f"search it: consilium search {out} --note KIND=TEXT",
    )


@takes_study
def search(
    index: Annotated[Path, typer.Argument(help="Folder that consilium index wrote.")],
    count: Annotated[int, typer.Option("--count", "-k", min=1, help="How many cases and sentences.")] = 5,
    label: Annotated[
        list[str] | None,
        typer.Option(metavar="FINDING=STATE", help="Only cases known to be so: present or absent; repeatable."),
    ] = None,
    having: Annotated[
        list[str] | None, typer.Option(metavar="MODALITY", help="Only cases that have it; repeatable.")
    ] = None,
    as_json: AsJson = False,
    *,
    sent: Mapping[str, Any],
) -> None:
    """Find the cases and sentences that are most like a study, whatever is given of it.

    Cases are named by pseudonyms: whoever holds the cohort can turn them back.
    """
    files, records = split_files(sent)
    labels = _labels(label or ())
    decoded = decode(files)
    from consilium.inference.search_index import Query, Searcher
    from consilium.system.threads import limit_threads

    limit_threads()
    searcher = Searcher.load(index)
    query = Query(count, labels, tuple(having or ()))
    found = searcher.search(read_study(decoded, records, searcher.variables), query)
    if as_json:
        show_json(found.to_json())
        return
    show(table_of("Similar cases", [_line(case) for case in found.cases]))
    if found.sentences:
        show(table_of("Sentences", [one.to_json() for one in found.sentences]))


def _labels(given: Sequence[str]) -> dict[str, bool]:
    states = {"present": True, "absent": False}
    labels = {}
    for one in given:
        finding, _, state = one.rpartition("=")
        if not finding or state not in states:
            raise InputError("label", one, "must be FINDING=present or FINDING=absent")
        labels[finding] = states[state]
    return labels


def _line(case: Any) -> dict[str, object]:
    known = {True: "yes", False: "no", None: ""}
    labels = {name: known[value] for name, value in case.labels.items()}
    return {"case": case.pseudonym, "similarity": case.similarity, "has": " + ".join(case.modalities), **labels}
