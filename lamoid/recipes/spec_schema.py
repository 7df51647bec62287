"""Writes the JSON schema of specs, by which editors complete and check them.

An editor that knows TOML schemas (Even Better TOML, taplo) takes it from a first line ``#:schema ./spec.schema.json``;
a JSON spec names it as ``"$schema"``.
"""

from pathlib import Path
from typing import Annotated

import msgspec

from lamoid.assembly.spec_schema import spec_schema as schema_of_specs
from lamoid.weights.durable import durable_file


class WrittenSchema(msgspec.Struct, frozen=True):
    """Where the schema is, and how many parts it knows."""

    out: str
    parts: int

    def lines(self) -> list[str]:
        """Say where it is and how an editor is told."""
        line = f"#:schema ./{Path(self.out).name}"
        return [f"{self.out}: {self.parts} parts", f"The first line of a TOML spec beside it: {line}"]


def spec_schema(
    *,
    out: Annotated[Path | str, "The file to write, such as spec.schema.json."],
    overwrite: Annotated[bool, "Replace the file if it exists."] = False,
) -> WrittenSchema:
    """Write the schema, with all that may be abbreviated by hand."""
    schema = schema_of_specs()
    data = msgspec.json.format(msgspec.json.encode(schema), indent=1) + b"\n"
    durable_file(Path(out), data, overwrite=overwrite)
    return WrittenSchema(str(out), len(schema["$defs"]))
