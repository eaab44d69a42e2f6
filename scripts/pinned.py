"""Print what the distribution with an extra needs, all the way down, pinned: ``python scripts/pinned.py serve``.

Without an argument: the bare distribution. Needs no network, see `service.packaging.pins`.
"""

from __future__ import annotations

import sys

from service.packaging.pins import requirements

if __name__ == "__main__":
    sys.stdout.write(requirements("consilium", *sys.argv[1:]))
