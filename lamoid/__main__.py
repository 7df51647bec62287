"""``python -m lamoid`` is the ``lamoid`` command."""

import sys

from lamoid.cli.main import run

if __name__ == "__main__":
    sys.exit(run())
