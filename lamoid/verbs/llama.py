"""The thing a person calls: a model with its tokenizer, loaded, asked, measured and saved."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, overload

import torch
from torch import Tensor

from lamoid.assembly.block import BlockSpec, MixerSpec
from lamoid.assembly.families.family import Family
from lamoid.assembly.model import LanguageModel, check_writes
from lamoid.assembly.paths import walk
from lamoid.assembly.spec import ModelSpec
from lamoid.contained import is_there
from lamoid.errors import InputError
from lamoid.evaluation.perplexity import Loss, document_losses
from lamoid.inference.engine import Engine, collect
from lamoid.inference.request import Piece, Request, Settings
from lamoid.text.tokenizer import Tokenizer
from lamoid.verbs.asking import Text, answers
from lamoid.verbs.placement import find_device, find_dtype
from lamoid.weights.adapter import open_adapter, put_adapters
from lamoid.weights.durable import durable_folder
from lamoid.weights.folder import load_model, open_folder, save_model
from lamoid.weights.names import Naming

TOKENIZER_FILES = (
    *("tokenizer.json", "vocab.json", "encoder.json", "vocab.txt"),
    *("tokenizer.model", "spiece.model", "sentencepiece.model"),
)
NO_TOKENIZER = "put its tokenizer.json into the folder, or pass a tokenizer: Llama(model, tokenizer)"


class Llama:
    """A language model and its tokenizer.

    ``model`` maps a batch to the logits of its heads. ``generation`` is what generation_config.json says and is saved
    again; of it, the end tokens and the decoder's start are used, and no sampling setting: those are arguments.
    ``name`` is what messages call it, ``family`` what it is saved as where several fit. A model may lack a tokenizer
    until something needs one.
    """

    def __init__(
        self,
        model: LanguageModel,
        tokenizer: Tokenizer | None = None,
        *,
        generation: dict[str, Any] | None = None,
        name: str = "the model in memory",
        family: Family | None = None,
    ) -> None:
        self.model = model
        self.generation = _complete(generation or {}, tokenizer)
        self.name = name
        self.family = family
        self._tokenizer = tokenizer

    def __repr__(self) -> str:
        mixers = [part.mixer for _, part in walk(self.spec.blocks) if isinstance(part, BlockSpec)]
        kinds = " and ".join(dict.fromkeys(_kind(mixer) for mixer in mixers)) or "none"
        size = f"{self.spec.parameters():,} parameters in {len(mixers)} blocks of {kinds}"
        dtype = str(self.model.dtype).removeprefix("torch.")
        return f"<Llama {self.name}: {size}, {dtype} on {self.model.device}>"

    @property
    def spec(self) -> ModelSpec:
        """The model's description."""
        return self.model.spec

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer; an ``InputError`` says how to get one where there is none."""
        if self._tokenizer is None:
            raise InputError(self.name, "holds no tokenizer, which text needs", NO_TOKENIZER)
        return self._tokenizer

    def use(self, adapters: Mapping[str, float]) -> None:
        """Let these adapters change the model's answers from now on, each times its weight; ``{}`` is the base alone.

        Raises ``InputError`` for an adapter that the model has not.
        """
        self.model.choice.use(adapters)

    @property
    def ends(self) -> frozenset[int]:
        """The tokens at which a text ends: the generation configuration's and the tokenizer's."""
        listed = self.generation["eos_token_id"]
        ends = set(listed) if isinstance(listed, list) else {listed}
        if self._tokenizer is not None:
            ends.add(self._tokenizer.end)
        return frozenset(token for token in ends if token is not None)

    @property
    def begin(self) -> int | None:
        """The token that an encoder-decoder's texts begin with; ``None`` where a text goes on from its prompt."""
        if not self.spec.reads_source:
            return None
        named = (self.generation.get(name) for name in ("decoder_start_token_id", "bos_token_id"))
        token = next((token for token in named if token is not None), None)
        if type(token) is not int or not 0 <= token < self.spec.vocab:
            problem = f"is {token!r}, and a text of an encoder-decoder begins with it"
            cure = "name it in generation_config.json; T5's is the padding token's id, 0"
            raise InputError(f"{self.name}: decoder_start_token_id", problem, cure)
        return token

    @overload
    def generate(
        self,
        prompt: str,
        *,
        max_tokens: int = ...,
        temperature: float = ...,
        top_k: int = ...,
        top_p: float = ...,
        min_p: float = ...,
        repetition_penalty: float = ...,
        seed: int = ...,
        stop: str | Sequence[str] = ...,
    ) -> str: ...

    @overload
    def generate(
        self,
        prompt: list[str] | tuple[str, ...],
        *,
        max_tokens: int = ...,
        temperature: float = ...,
        top_k: int = ...,
        top_p: float = ...,
        min_p: float = ...,
        repetition_penalty: float = ...,
        seed: int = ...,
        stop: str | Sequence[str] = ...,
    ) -> list[str]: ...

    def generate(
        self,
        prompt: str | list[str] | tuple[str, ...],
        *,
        max_tokens: int = 256,
        temperature: float = 0.0,
        top_k: int = 0,
        top_p: float = 1.0,
        min_p: float = 0.0,
        repetition_penalty: float = 1.0,
        seed: int = 0,
        stop: str | Sequence[str] = (),
    ) -> str | list[str]:
        """Give the continuation of a text, or of each of several; ``""`` begins with the start token.

        Temperature 0 is greedy. A text ends with an end token, before a stop string, after ``max_tokens`` or at the
        model's context. What a prompt gets with a seed does not depend on the prompts beside it; equal prompts of one
        call draw differently. An encoder-decoder reads the prompt as its source and writes a text of its own. Raises
        ``InputError`` naming the setting, the prompt, or what keeps the model from writing.
        """
        settings = Settings(max_tokens, temperature, top_k, top_p, min_p, repetition_penalty, seed, stop)
        prompts = list(prompt) if isinstance(prompt, list | tuple) else [prompt]
        texts = [done.text for done in collect(self.write(prompts, settings), len(prompts))]
        return texts if isinstance(prompt, list | tuple) else texts[0]

    def stream(
        self,
        prompt: str,
        *,
        max_tokens: int = 256,
        temperature: float = 0.0,
        top_k: int = 0,
        top_p: float = 1.0,
        min_p: float = 0.0,
        repetition_penalty: float = 1.0,
        seed: int = 0,
        stop: str | Sequence[str] = (),
    ) -> Iterator[str]:
        """Give the same continuation as ``generate`` in pieces, each as soon as it is certain."""
        settings = Settings(max_tokens, temperature, top_k, top_p, min_p, repetition_penalty, seed, stop)
        return (piece.text for piece in self.write([prompt], settings) if piece.text)

    def write(
        self,
        prompts: Sequence[str | tuple[int, ...]],
        settings: Settings,
        *,
        ends: Collection[int] = (),
        show_sentinels: bool = False,
    ) -> Iterator[Piece]:
        """Continue several texts, or the token ids of some, side by side; give a ``Piece`` for each token as it comes.

        A text ends at the tokens ``ends`` too. With ``show_sentinels`` an encoder-decoder's sentinels stand in what it
        writes: without them what it puts into several gaps cannot be told apart.
        """
        try:
            check_writes(self.spec)
        except InputError as error:
            raise InputError(f"{self.name}: {error.culprit}", error.problem, error.cure) from error
        requests, copies = [], {}
        for prompt in prompts:
            if not isinstance(prompt, str | tuple):
                raise InputError("prompt", f"is {str(prompt)[:80]!r}, not a text", "give a text or a list of texts")
            ids = tuple(self._read_prompt(prompt)) if isinstance(prompt, str) else prompt
            requests.append(Request(ids, settings, copies.get(prompt, 0)))
            copies[prompt] = copies.get(prompt, 0) + 1
        place, begin = self.model.device, self.begin
        shown = self.tokenizer.sentinels if show_sentinels and begin is not None else ()
        open_text = partial(self.tokenizer.stream, shown=frozenset(shown))
        engine = Engine(self.model, self.spec.context, self.ends | {*ends}, open_text, place, begin=begin)
        return engine.stream(requests)

    @overload
    def logits(self, text: Text, *, head: str | None = ...) -> Tensor: ...

    @overload
    def logits(
        self, text: list[Text] | list[str] | list[tuple[str, str]], *, head: str | None = ...
    ) -> list[Tensor]: ...

    def logits(
        self, text: Text | list[Text] | list[str] | list[tuple[str, str]], *, head: str | None = None
    ) -> Tensor | list[Tensor]:
        """Give what a head answers to a text, to a pair of texts ``(first, second)``, or to each of a list of these.

        A tensor (outputs,) for a head that answers about a text, (T, outputs) for one that answers about its T tokens,
        control tokens among them: before any softmax. ``head`` is the default one if not named. An encoder-decoder
        reads a text as its source, and as its own text behind its start token. Raises ``InputError`` for an unknown
        head and for what cannot be read.
        """
        texts: list[Text] = [*text] if isinstance(text, list) else [text]
        found = list(answers(self.model, self.tokenizer, texts, head=head, begin=self.begin))
        return found if isinstance(text, list) else found[0]

    def loss(self, text: str) -> Loss:
        """Measure a text: the sum of its tokens' nats, how many they are, and its bytes in UTF-8.

        Each token is scored once, from the start token, in windows of the context.
        """
        if not isinstance(text, str):
            raise InputError("text", f"is {str(text)[:80]!r}, not a text", "give a text")
        return document_losses(self.model, self.tokenizer, [text])[0]

    def save(self, folder: Path | str, *, overwrite: bool = False) -> None:
        """Write a folder that ``load`` and Hugging Face's transformers read, whole or not at all.

        Raises ``InputError`` where the folder exists and ``overwrite`` is not set, ``NotCommitted`` if the disk fails.
        """
        files = {} if self._tokenizer is None else self._tokenizer.files()
        with durable_folder(Path(folder), overwrite=overwrite) as draft:
            save_model(self.model, draft, generation=self.generation, tokenizer_files=files, family=self.family)

    def _read_prompt(self, prompt: str) -> list[int]:
        try:
            prompt.encode()
        except UnicodeEncodeError as error:
            problem = f"has half a surrogate pair at character {error.start}, which is no character"
            raise InputError("prompt", problem, "give valid Unicode; in a shell, UTF-8") from error
        ids = self.tokenizer.prompt(prompt)
        if ids and max(ids) >= self.spec.vocab:
            problem = f"gives the token {max(ids)}, the model knows {self.spec.vocab}"
            raise InputError(f"{self.name}: tokenizer", problem, "use the tokenizer that the model was trained with")
        return ids


def load(
    folder: Path | str,
    *,
    device: str | torch.device = "cpu",
    dtype: str | torch.dtype | None = None,
    ignore_fields: Sequence[str] = (),
    adapters: Sequence[Path | str] | Mapping[str, Path | str] = (),
) -> Llama:
    """Load a model folder in the layout of Hugging Face; ``dtype`` None keeps the stored one.

    A folder without a tokenizer loads too: ``.model`` works, and what needs text says what is missing. Fields of
    config.json that lamoid does not know are refused but for ``ignore_fields``. ``adapters`` are folders in peft's
    layout, called as the folders are or by the keys of a mapping; the first one is active (``Llama.use``). Raises
    ``InputError`` naming file and field or tensor for whatever does not fit.
    """
    place, kind = find_device(device), find_dtype(dtype)
    opened = open_folder(Path(folder), ignore_fields=ignore_fields)
    named = adapters.items() if isinstance(adapters, Mapping) else [(None, path) for path in adapters]
    beside = [open_adapter(path, name) for name, path in named]
    tokenizer = None
    if any(is_there(opened.path, name) for name in TOKENIZER_FILES):
        tokenizer = Tokenizer.read(opened.path)
        if tokenizer.end is None and (opened.start is not None or opened.end is not None):
            start = opened.start if tokenizer.start is None else tokenizer.start
            tokenizer = Tokenizer.read(opened.path, start=start, end=opened.end)
    ends = list(opened.ends) if len(opened.ends) > 1 else opened.end
    generation = {**opened.generation, "bos_token_id": opened.start, "eos_token_id": ends}
    model = load_model(opened, device=place, dtype=kind)
    if beside:
        model = put_adapters(model, Naming(opened.family, opened.architecture), beside)
    return Llama(model, tokenizer, generation=generation, name=str(folder), family=opened.family)


def _kind(mixer: MixerSpec) -> str:
    """Name a mixer as a spec does."""
    return str(mixer.__struct_config__.tag).replace("_", " ")


def _complete(generation: dict[str, Any], tokenizer: Tokenizer | None) -> dict[str, Any]:
    """Add the tokenizer's start and end where the configuration names none."""
    start, end = (None, None) if tokenizer is None else (tokenizer.start, tokenizer.end)
    named = {"bos_token_id": start, "eos_token_id": end}
    return {**generation, **{name: token for name, token in named.items() if generation.get(name) is None}}
