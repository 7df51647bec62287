"""The schema beside the example models, which editors read, is the one of this code.

When a spec changes, write it anew: ``lamoid spec schema --out examples/models/spec.schema.json --overwrite``.
"""

import json
from pathlib import Path

from lamoid.assembly.spec_schema import spec_schema

STORED = Path(__file__).parents[2] / "examples" / "models" / "spec.schema.json"


def test_the_stored_schema_is_the_current_one() -> None:
    assert json.loads(STORED.read_bytes()) == json.loads(json.dumps(spec_schema()))
