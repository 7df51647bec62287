"""A process that cleans batches of texts: frames of MessagePack on standard input and output, no pickle, no fork.

Started by ``cleaning_workers`` as ``python -m lamoid.data.cleaning_worker``. The first frame is the rules; each further
one a list of texts, answered by the list of their outcomes. It ends when its input does.
"""

import os
import signal
import sys
from typing import BinaryIO

import msgspec

from lamoid.text.clean_document import clean_document
from lamoid.text.clean_rules import CleanSpec


def read_frame(stream: BinaryIO) -> bytes | None:
    """Read the next frame, of which 8 bytes give the length; None at the end, also at one in the middle of a frame."""
    head = stream.read(8)
    length = int.from_bytes(head, "little")
    data = stream.read(length) if len(head) == 8 else b""
    return data if len(head) == 8 and len(data) == length else None


def write_frame(stream: BinaryIO, data: bytes) -> None:
    """Write a frame and send it."""
    stream.write(len(data).to_bytes(8, "little"))
    stream.write(data)
    stream.flush()


def serve(source: BinaryIO, sink: BinaryIO) -> None:
    """Answer frames until there are no more."""
    first = read_frame(source)
    if first is None:
        return
    spec = msgspec.msgpack.decode(first, type=CleanSpec)
    while (frame := read_frame(source)) is not None:
        texts = msgspec.msgpack.decode(frame, type=list[str])
        write_frame(sink, msgspec.msgpack.encode([clean_document(text, spec) for text in texts]))


def main() -> None:
    """Serve the process that started this one; what a library prints goes to standard error."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the other process is interrupted too, and closes our input
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    with answers:
        serve(sys.stdin.buffer, answers)


if __name__ == "__main__":
    main()
