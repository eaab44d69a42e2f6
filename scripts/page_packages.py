"""Add to a bill of materials what of npm is in the reading page: ``python scripts/page_packages.py BILL``.

The build writes the licences of the packages whose code it took; their headings name them. They are added with the
digests that `web/package-lock.json` holds of them.
"""

from __future__ import annotations

import base64
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

_ROOT = Path(__file__).resolve().parents[1]
_LICENCES = _ROOT / "service" / "page" / "static" / "third-party-licences.txt"
_LOCK = _ROOT / "web" / "package-lock.json"
_HEADING = re.compile(r"^== (\S+) (\S+) \((.+)\)$", re.MULTILINE)


def components() -> Iterator[dict[str, Any]]:
    """The packages in the page, as CycloneDX has them."""
    locked = json.loads(_LOCK.read_text(encoding="utf-8"))["packages"]
    for name, version, licence in _HEADING.findall(_LICENCES.read_text(encoding="utf-8")):
        algorithm, _, digest = locked[f"node_modules/{name}"]["integrity"].partition("-")
        purl = f"pkg:npm/{quote(name, safe='/')}@{version}"
        yield {
            "bom-ref": purl,
            "hashes": [{"alg": f"SHA-{algorithm[3:]}", "content": base64.b64decode(digest).hex()}],
            "licenses": [{"license": {"id": licence}}],
            "name": name,
            "purl": purl,
            "type": "library",
            "version": version,
        }


def main(bill: Path) -> None:
    contents = json.loads(bill.read_text(encoding="utf-8"))
    contents["components"] += components()
    bill.write_text(json.dumps(contents, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
