"""`python -m consilium.cli`: the command where no console script is on the path."""

import sys

from consilium.cli import main

if __name__ == "__main__":
    sys.exit(main())
