"""One of the processes of a fusion, started by another one: python -m lamoid.fusion.worker FOLDER RANK."""

import os
import sys
import threading
from pathlib import Path

from lamoid.errors import InputError
from lamoid.fusion.workers import do_part


def main() -> None:
    """Do the share; end at once when the process that started this one ends."""
    threading.Thread(target=_end_with_the_starter, daemon=True).start()
    try:
        do_part(Path(sys.argv[1]), int(sys.argv[2]))
    except (InputError, OSError) as error:
        sys.exit(str(error))


def _end_with_the_starter() -> None:
    sys.stdin.buffer.read()
    os._exit(1)


if __name__ == "__main__":
    main()
