"""Run the command line: ``python -m cpufeat``."""

import sys

from cpufeat.cli import main

if __name__ == "__main__":
    sys.exit(main())
