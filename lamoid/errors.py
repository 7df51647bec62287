"""The one error that means: what a person gave cannot be used."""


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
