"""Reads YAML from strangers: a few lines of aliases can stand for more values than any memory holds."""

from pathlib import Path
from typing import Any

from lamoid.errors import InputError

MOST_VALUES = 100_000
LONGEST_NUMBER = 100


def read_yaml(data: bytes, path: Path) -> list[Any]:
    """Give the documents that are not empty; raise ``InputError`` for what is no YAML or stands for too many values.

    Values are counted before any is made, as often as aliases repeat them.
    """
    try:
        import yaml
    except ImportError:
        raise InputError(path, "is YAML, for which PyYAML is missing", "pip install 'lamoid[yaml]'") from None
    documents = []
    try:
        loader = yaml.SafeLoader(data.decode())
        while loader.check_node():
            node = loader.get_node()
            _check_values(node, path)
            documents.append(loader.construct_document(node))
    except InputError:
        raise
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        said = " ".join(str(error).split())[:500]
        raise InputError(path, f"is not YAML: {said}", "mend the place named") from None
    return [tree for tree in documents if tree is not None]


def _check_values(node: Any, path: Path) -> None:
    found: dict[int, int] = {}

    def count(node: Any) -> int:
        if id(node) not in found:
            if isinstance(node.value, str):
                if node.tag.endswith((":int", ":float")) and len(node.value) > LONGEST_NUMBER:
                    problem = f"holds a number of {len(node.value)} digits"
                    raise InputError(path, problem, f"write at most {LONGEST_NUMBER} digits")
                return 1
            found[id(node)] = MOST_VALUES + 1
            inner = [each for pair in node.value for each in (pair if isinstance(pair, tuple) else (pair,))]
            found[id(node)] = 1 + sum(map(count, inner))
        if found[id(node)] > MOST_VALUES:
            problem = f"stands for more than {MOST_VALUES} values, or for a value within itself"
            raise InputError(path, problem, "write out what the aliases repeat, as far as it is needed")
        return found[id(node)]

    count(node)
