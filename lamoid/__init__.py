"""Lamoid: assemble, train, fuse, measure and use language models.

The public dozen, each imported when it is first asked for, so that ``import lamoid`` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lamoid.assembly.batch import Batch as Batch
    from lamoid.assembly.spec import ModelSpec as ModelSpec
    from lamoid.errors import InputError as InputError
    from lamoid.recipes.assemble import assemble as assemble
    from lamoid.recipes.evaluate import evaluate as evaluate
    from lamoid.recipes.fuse import fuse as fuse
    from lamoid.recipes.prepare import prepare as prepare
    from lamoid.recipes.train import train as train
    from lamoid.text.tokenizer import Tokenizer as Tokenizer
    from lamoid.text.training import train_tokenizer as train_tokenizer
    from lamoid.verbs.llama import Llama as Llama
    from lamoid.verbs.llama import load as load

_HOME = {
    "load": "lamoid.verbs.llama",
    "assemble": "lamoid.recipes.assemble",
    "train": "lamoid.recipes.train",
    "fuse": "lamoid.recipes.fuse",
    "evaluate": "lamoid.recipes.evaluate",
    "prepare": "lamoid.recipes.prepare",
    "train_tokenizer": "lamoid.text.training",
    "Llama": "lamoid.verbs.llama",
    "Tokenizer": "lamoid.text.tokenizer",
    "ModelSpec": "lamoid.assembly.spec",
    "Batch": "lamoid.assembly.batch",
    "InputError": "lamoid.errors",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'lamoid' has no attribute {name!r}; it has {', '.join(_HOME)}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *_HOME]
