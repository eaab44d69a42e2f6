"""The year on a terminal, as it goes and as it went."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

from consilium.cli.loop.year import Year
from consilium.cli.shared.console import progress_bar, show, table_of

if TYPE_CHECKING:
    from consilium.cli.loop.year_report import YearReport


def show_year(folder: Path, year: Year | None = None) -> None:
    """Walk through a year in `folder`, whose last year is deleted, and show it."""
    from consilium.cli.loop.arrivals import written
    from consilium.cli.loop.story import run_year
    from consilium.cli.loop.year_report import DOCUMENT, FIGURE

    year = year or Year()
    shutil.rmtree(folder, ignore_errors=True)
    begun = time.monotonic()
    show(
        f"The year {year.number} of a made-up hospital: {year.at_start} studies to begin with, {year.a_month} a month, "
        f"{year.read_share:.0%} of them read after {year.read_days:g} days on average.",
        f"In month {year.scanner_month} another scanner comes; from month {year.prevalence_month} on three findings "
        "have three times their odds. The loop does not know.",
        "",
    )
    with progress_bar("studies", written(year)) as done:
        report = run_year(year, folder, lambda event: show(str(event)), done)
    show("", table_of("AUROC and ECE by month, mean over findings", _lines(report)), "")
    show(
        f"{time.monotonic() - begun:.0f} s; the champion was version {report.first}, and is version {report.last}",
        f"figure and JSON:  {(folder / FIGURE).resolve()}, {(folder / DOCUMENT).resolve()}",
        f"every run:        mlflow ui --backend-store-uri sqlite:///{(folder / 'mlruns' / 'mlflow.db').resolve()}",
    )


def _lines(report: YearReport) -> list[dict[str, object]]:
    return [
        {
            "month": month["month"],
            "AUROC with the loop": month["with_loop"]["auroc"],
            "without": month["without"]["auroc"],
            "ECE with the loop": month["with_loop"]["ece"],
            "ECE without": month["without"]["ece"],
            "ECE by chance": month["with_loop"]["ece_by_chance"],
        }
        for month in report.months
    ]
