"""Lets a model go on with texts, and shows them while they are written."""

import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import msgspec

from lamoid.errors import InputError
from lamoid.inference.engine import collect
from lamoid.inference.request import Piece, Reason, Settings
from lamoid.verbs.chatting import ask
from lamoid.verbs.llama import Llama, load
from lamoid.weights.durable import NotCommitted

MOST_PROMPT_BYTES = 64 * 2**20


class Written(msgspec.Struct, frozen=True):
    """One text: tokens are counted with the start token before and the end token behind them."""

    prompt: str
    text: str
    prompt_tokens: int
    tokens: int
    finish: Reason


class Generation(msgspec.Struct, frozen=True):
    """All texts; ``tokens_per_second`` counts written tokens from the first step, which reads the prompts, on."""

    model: str
    texts: list[Written]
    seconds: float
    tokens_per_second: float

    def lines(self) -> list[str]:
        """Give nothing but the last line's end: the texts were shown while they were written."""
        return [""]


def generate(
    model: Annotated[Path, "Model folder."],
    *,
    prompt: Annotated[Sequence[str], "Text to go on with; may be repeated. Without any, a text from its start."] = (),
    prompt_file: Annotated[Sequence[Path], "File whose whole text is a prompt, its last line end aside."] = (),
    max_tokens: Annotated[int, "Tokens to write at most."] = 256,
    temperature: Annotated[float, "0 takes the likeliest token, 1 draws by the model's probabilities."] = 0.0,
    top_k: Annotated[int, "Draw from the k likeliest tokens; 0 from all."] = 0,
    top_p: Annotated[float, "Draw from the likeliest tokens that hold this share of the probability."] = 1.0,
    min_p: Annotated[float, "Draw from tokens of at least this share of the likeliest one's probability."] = 0.0,
    repetition_penalty: Annotated[float, "Above 1, tokens that were there become less likely."] = 1.0,
    seed: Annotated[int, "The same seed gives the same text."] = 0,
    stop: Annotated[Sequence[str], "End before this text; may be repeated."] = (),
    device: Annotated[str, "Where to compute: cpu, cuda."] = "cpu",
    dtype: Annotated[str | None, "Compute in float32, bfloat16 or float16 instead of the stored dtype."] = None,
    ignore_field: Annotated[Sequence[str], "Unknown field of config.json to pass over; may be repeated."] = (),
    adapter: Annotated[Sequence[Path], "Folder of an adapter, in peft's layout; of several, all add up."] = (),
    chat: Annotated[Sequence[str], "Question, put by the model's own chat template; may be repeated."] = (),
) -> Generation:
    """Continue every prompt and write the continuations to standard output while they come.

    Questions of ``chat`` are answered, each by itself, up to the token that ends a turn. An encoder-decoder that fills
    gaps writes its sentinels too. Raises ``InputError`` for a setting, a file or a prompt that cannot be used, before
    anything is written.
    """
    settings = Settings(max_tokens, temperature, top_k, top_p, min_p, repetition_penalty, seed, tuple(stop))
    texts = [*prompt, *(_read_prompt(path) for path in prompt_file)]
    if chat and texts:
        raise InputError("--chat", "stands beside a prompt, which no template is put around", "give one of the two")
    llama = load(model, device=device, dtype=dtype, ignore_fields=ignore_field, adapters=adapter)
    llama.use(dict.fromkeys(llama.model.choice.names, 1.0))
    prompts = [*chat] or texts or [""]
    asked, ends = ask(llama, chat) if chat else (prompts, ())
    began = time.perf_counter()
    done = collect(_show(llama.write(asked, settings, ends=ends, show_sentinels=True), prompts), len(prompts))
    seconds = time.perf_counter() - began
    written = [
        Written(prompt, text.text, _length(llama, ids), len(text.ids), text.reason)
        for prompt, ids, text in zip(prompts, asked, done, strict=True)
    ]
    _tell_ends(llama, written, [text.ids for text in done], max_tokens)
    return Generation(str(model), written, seconds, sum(text.tokens for text in written) / max(seconds, 1e-9))


def _length(llama: Llama, prompt: str | tuple[int, ...]) -> int:
    """Count the tokens that are read."""
    return len(llama.tokenizer.prompt(prompt) if isinstance(prompt, str) else prompt)


def _tell_ends(llama: Llama, texts: Sequence[Written], ids: Sequence[Sequence[int]], most: int) -> None:
    """Say on standard error how many texts filled the context, and of which tokens those are that show nothing."""
    full = sum(text.finish == "length" and text.tokens < most for text in texts)
    if full:
        print(f"\n{full} of {len(texts)} ended at the model's context of {llama.spec.context} tokens.", file=sys.stderr)
    controls = llama.tokenizer.controls
    blank = [tokens for text, tokens in zip(texts, ids, strict=True) if not text.text and controls.issuperset(tokens)]
    if blank:
        pieces = llama.tokenizer.pieces()
        names = dict.fromkeys(repr(pieces[token]) for tokens in blank for token in tokens)
        what = f"{len(blank)} of {len(texts)} are empty: the model wrote control tokens alone"
        print(f"\n{what} ({', '.join([*names][:8])}).", file=sys.stderr)


def _show(pieces: Iterator[Piece], prompts: Sequence[str]) -> Iterator[Piece]:
    """Pass the pieces on and print them: one text after the other, each behind its prompt's line if there are several.

    Texts are written side by side; the one that is printed comes as it is written, those behind it wait.
    """
    waiting = [""] * len(prompts)
    is_done = [False] * len(prompts)
    shown = 0
    _print(_heading(prompts, 0))
    for piece in pieces:
        waiting[piece.row] += piece.text
        is_done[piece.row] = piece.reason is not None
        if piece.row == shown:
            _print(waiting[shown])
            waiting[shown] = ""
            while is_done[shown] and shown + 1 < len(prompts):
                shown += 1
                _print("\n\n" + _heading(prompts, shown) + waiting[shown])
                waiting[shown] = ""
        yield piece


def _heading(prompts: Sequence[str], row: int) -> str:
    return f"== {prompts[row]!r}\n" if len(prompts) > 1 else ""


def _print(text: str) -> None:
    """Show a piece at once; a full disk behind standard output is a declared error, a reader that left is none."""
    try:
        if text:
            print(text, end="", flush=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        problem = f"standard output: cannot be written ({error.strerror})"
        raise NotCommitted(f"{problem}. Send it to a disk with room, or to a terminal.") from error


def _read_prompt(path: Path) -> str:
    try:
        if path.stat().st_size > MOST_PROMPT_BYTES:
            raise InputError(path, f"is larger than {MOST_PROMPT_BYTES} bytes", "give a shorter prompt")
        text = path.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise InputError(path, f"is not UTF-8 at byte {error.start}", "save it as UTF-8") from error
    except OSError as error:
        raise InputError(path, f"cannot be read: {error.strerror}", "name a readable text file") from error
    return text.removesuffix("\n")
