"""``python -m tests.soak_hospital [--studies N]``: soak the gateway and say what came of it. Exit code 1: it failed."""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.soak_hospital.campaign import Campaign
from tests.soak_hospital.planned_studies import SHARE
from tests.soak_hospital.verdict import failures


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak_hospital", description=__doc__)
    parser.add_argument("--studies", type=int, default=2_000)
    parser.add_argument("--share", type=float, default=SHARE, help="of the studies that meet each mishap")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    logging.getLogger("consilium.gateway").setLevel(logging.ERROR)
    begun = time.monotonic()
    with TemporaryDirectory(prefix="consilium-soak-hospital-") as folder:
        campaign = Campaign(Path(folder), arguments.studies, arguments.seed, arguments.share)
        played = campaign.play(lambda line: print(f"{time.monotonic() - begun:6.0f} s  {line}", flush=True))
        found = failures(played)
        revisions = sum(len(played.hospital.store.studies.revisions(study.uid)) for study in played.studies)
        played.hospital.store.close()
    mishaps = Counter(mishap for study in played.studies for mishap in study.mishaps)
    for name, count in sorted(mishaps.items()):
        print(f"{count:5} studies  {name}")
    repeated = sum(times - 1 for archive in played.archives.values() for times in archive.times.values())
    print(f"{len(played.studies)} studies, {revisions} revisions, sent again after a death: {repeated}")
    print(", ".join(f"{name} {count} times" for name, count in sorted(played.deaths.items())))
    for failure in found:
        print(f"failed: {failure}")
    print(f"{'failed' if found else 'passed'} in {time.monotonic() - begun:.0f} s")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
