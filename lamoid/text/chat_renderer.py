"""Renders chat templates, which strangers wrote, in a process that can neither hang nor eat the memory."""

import json
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from lamoid.errors import InputError

MEMORY = 512 * 2**20
MOST_CHARACTERS = 2**23
DEADLINE = 20.0
LONGEST_TEMPLATE = 2**20
_WORKER = Path(__file__).with_name("chat_worker.py")


class ChatRenderer:
    """Renders one template as often as asked; used in a ``with``, at whose end its process ends too.

    A rendering may take ``deadline`` seconds, ``MEMORY`` bytes and ``MOST_CHARACTERS``; ``name`` says where the
    template stands.
    """

    def __init__(self, template: str, name: object, *, deadline: float = DEADLINE) -> None:
        if len(template) > LONGEST_TEMPLATE:
            raise InputError(name, f"has {len(template)} characters, the limit is {LONGEST_TEMPLATE}", "shorten it")
        self.name, self.deadline = name, deadline
        order = {"template": template, "memory": MEMORY, "most": MOST_CHARACTERS}
        self._order = json.dumps(order)
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> "ChatRenderer":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def render(self, variables: dict[str, Any]) -> str:
        """Give the text that the template makes; ``InputError`` names the template and says why it cannot."""
        process = self._process or self._start()
        is_late = threading.Event()

        def give_up() -> None:
            is_late.set()
            process.kill()

        timer = threading.Timer(self.deadline, give_up)
        timer.start()
        try:
            answer = _exchange(process, json.dumps(variables))
        finally:
            timer.cancel()
        if answer is None:
            self._end()
            problem = f"did not end within {self.deadline:g} seconds" if is_late.is_set() else "ended its own process"
            raise InputError(self.name, problem, "mend the template, or name another")
        if "error" in answer:
            raise InputError(self.name, answer["error"], "mend the template or the conversation, or name another")
        return answer["text"]

    def _start(self) -> "subprocess.Popen[str]":
        self._process = subprocess.Popen(
            [sys.executable, "-I", str(_WORKER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            encoding="ascii",
        )
        _send(self._process, self._order)
        return self._process

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    _close(pipe)
            self._process = None


def _exchange(process: "subprocess.Popen[str]", line: str) -> dict[str, str] | None:
    """Send a line and read the answer; ``None`` if the process is gone."""
    if process.stdout is None or not _send(process, line):
        return None
    answer = process.stdout.readline()
    return json.loads(answer) if answer.endswith("\n") else None


def _send(process: "subprocess.Popen[str]", line: str) -> bool:
    if process.stdin is None:
        return False
    try:
        process.stdin.write(line + "\n")
        process.stdin.flush()
    except BrokenPipeError:
        return False
    return True


def _close(pipe: IO[str]) -> None:
    try:
        pipe.close()
    except BrokenPipeError:
        return
