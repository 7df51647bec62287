"""The error that means: what a person gave cannot be used; and the word of a run that was asked to stop."""


class InputError(ValueError):
    """Refuses a file, field or value, and says how to mend it.

    ``culprit`` names the file or field (``model/config.json: hidden_size``), ``problem`` gives the value and the
    limit it broke, ``cure`` says what to do. The command line turns it into exit status 2.
    """

    def __init__(self, culprit: object, problem: str, cure: str) -> None:
        super().__init__(f"{culprit}: {problem.rstrip('.')}. {cure[:1].upper()}{cure[1:].rstrip('.')}.")
        self.culprit = str(culprit)
        self.problem = problem
        self.cure = cure

    def __reduce__(self) -> tuple[type, tuple[str, str, str]]:
        return type(self), (self.culprit, self.problem, self.cure)


class Stopped(KeyboardInterrupt):
    """Says that a run saved itself and ended because a signal asked for it; ``status`` is the exit status to give."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status

    def __reduce__(self) -> tuple[type, tuple[str, int]]:
        return type(self), (str(self), self.status)
