"""Single-stream greedy decoding of a random LLaMA beside transformers, and beside what the memory allows.

Both sides use the very same tensors in one process and take turns at going first; figures are medians over the turns,
all of which are kept. Every weight is read once a token, so there are three yardsticks: the model's own matrix-vector
products with nothing else, the same products as torch does them by itself (through oneDNN, slower), and memory read by
torch's ``sum``. Random bf16 weights give nearly flat logits, so the two sides' greedy tokens part after some: the
roundings of their kernels differ. In float32 they are equal (tests/reference/test_generation.py).

    python benchmarks/generate.py             # 1.1B in bf16, about 2 minutes on two quiet cores, 3 GB
    python benchmarks/generate.py --small     # two of its layers
"""

import argparse
import datetime
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import transformers
from torch import Tensor, nn

from lamoid.assembly.families.shape import Shape
from lamoid.assembly.families.table import FAMILIES
from lamoid.assembly.linear import multiply
from lamoid.assembly.model import LanguageModel
from lamoid.inference.engine import Engine
from lamoid.inference.request import Request, Settings

RESULTS = Path(__file__).parent / "results"
VOCAB = 32000


class Silence:
    """A decoder that spells nothing: text is not what is measured."""

    def push(self, token: int) -> str:
        return ""

    def finish(self) -> str:
        return ""


class Clock:
    """Notes when each token comes; transformers calls ``put`` with the prompt first, then with every token."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.tokens: list[int] = []

    def put(self, tokens: Tensor) -> None:
        self.times.append(time.perf_counter())
        self.tokens += tokens.flatten().tolist()

    def end(self) -> None:
        self.times.append(time.perf_counter())


def build(layers: int) -> tuple[LanguageModel, nn.Module]:
    """Draw one set of weights and give both models on it."""
    shape = Shape(
        width=2048, layers=layers, heads=32, kv_heads=4, hidden=5632, context=2048, tied=False, family="llama"
    )
    spec = shape.spec(VOCAB)
    with torch.device("meta"):
        ours = LanguageModel(spec)
        config = transformers.LlamaConfig(**(FAMILIES["llama"].config(spec) or {}), eos_token_id=None)
        peer = transformers.LlamaForCausalLM(config)
    generator = torch.Generator().manual_seed(0)
    state = {}
    for name, parameter in ours.named_parameters():
        drawn = torch.empty(parameter.shape, dtype=torch.bfloat16)
        state[name] = drawn.fill_(1.0) if parameter.ndim == 1 else drawn.normal_(0.0, 0.02, generator=generator)
    ours.load_state_dict(state, assign=True)
    renames = FAMILIES["llama"].renames(spec)
    peer.load_state_dict({row.theirs: state[row.ours[0]] for row in renames}, assign=True)
    peer.model.rotary_emb = type(peer.model.rotary_emb)(config)
    peer.generation_config.pad_token_id = 0
    return ours, peer.eval()


def time_ours(model: LanguageModel, prompt: Sequence[int], count: int) -> tuple[list[int], float, float]:
    """Give the tokens, the seconds until the first one and the seconds a token after it."""
    engine = Engine(model, model.spec.context, frozenset(), lambda _: Silence(), torch.device("cpu"))
    clock = Clock()
    began = time.perf_counter()
    for piece in engine.stream([Request(tuple(prompt), Settings(max_tokens=count))]):
        clock.put(torch.tensor(piece.token))
    return clock.tokens, clock.times[0] - began, (clock.times[-1] - clock.times[0]) / (count - 1)


def time_peer(peer: nn.Module, prompt: Sequence[int], count: int) -> tuple[list[int], float, float]:
    """The same of transformers' generate with its cache."""
    ids, clock = torch.tensor([prompt]), Clock()
    began = time.perf_counter()
    peer.generate(  # type: ignore[operator]
        ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=count, streamer=clock
    )
    times = clock.times[1 : count + 1]
    return clock.tokens[len(prompt) :], times[0] - began, (times[-1] - times[0]) / (count - 1)


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


@torch.inference_mode()
def time_products(model: LanguageModel, product: Callable[[Tensor, Tensor], Tensor]) -> float:
    """Multiply a vector by every matrix that a token meets, and do nothing else."""
    matrices = [layer.weight for layer in model.modules() if isinstance(layer, nn.Linear)]
    vectors = {width: torch.randn(1, 1, width).bfloat16() for width in {matrix.shape[1] for matrix in matrices}}
    return seconds(lambda: [product(vectors[matrix.shape[1]], matrix) for matrix in matrices])


@torch.inference_mode()
def time_reading(model: LanguageModel) -> float:
    """Sum as many bytes as the matrices have, as float32."""
    matrices = [layer.weight for layer in model.modules() if isinstance(layer, nn.Linear)]
    return seconds(lambda: [matrix.view(torch.float32).sum() for matrix in matrices])


def measure(layers: int, turns: int, count: int) -> dict[str, object]:
    """Take turns after one round to warm up; give the medians and their ratios."""
    model, peer = build(layers)
    prompt = torch.randint(VOCAB, (16,), generator=torch.Generator().manual_seed(1)).tolist()
    size = sum(layer.weight.nbytes for layer in model.modules() if isinstance(layer, nn.Linear))
    rounds = []
    for turn in range(turns + 1):
        if turn % 2:
            theirs, ours = time_peer(peer, prompt, count), time_ours(model, prompt, count)
        else:
            ours, theirs = time_ours(model, prompt, count), time_peer(peer, prompt, count)
        bounds = time_products(model, multiply), time_products(model, nn.functional.linear), time_reading(model)
        rounds.append((ours, theirs, *bounds))
    pairs = zip(rounds[0][0][0], rounds[0][1][0], strict=True)
    same = next((place for place, (one, other) in enumerate(pairs) if one != other), count)
    rounds = rounds[1:]
    first, first_peer = (statistics.median(turn[side][1] for turn in rounds) for side in (0, 1))
    each, each_peer = (statistics.median(turn[side][2] for turn in rounds) for side in (0, 1))
    products, onednn, reading = (statistics.median(turn[side] for turn in rounds) for side in (2, 3, 4))
    return {
        "tokens_per_second": 1 / each,
        "transformers_tokens_per_second": 1 / each_peer,
        "ratio": statistics.median(turn[1][2] / turn[0][2] for turn in rounds),
        "share_of_products_bound": products / each,
        "share_of_reading_bound": reading / each,
        "products_bound_tokens_per_second": 1 / products,
        "onednn_products_tokens_per_second": 1 / onednn,
        "reading_bound_tokens_per_second": 1 / reading,
        "reading_gigabytes_per_second": size / reading / 1e9,
        "prompt_seconds": first,
        "transformers_prompt_seconds": first_peer,
        "bytes_a_token": size,
        "equal_greedy_tokens": same,
        "tokens": count,
        "turns": [{"seconds_a_token": turn[0][2], "transformers_seconds_a_token": turn[1][2]} for turn in rounds],
        "layers": layers,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="two layers, not written to results")
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--threads", type=int, default=0, help="0 leaves torch's own choice")
    words = parser.parse_args()
    if words.threads:
        torch.set_num_threads(words.threads)
    figures = measure(2 if words.small else 22, words.turns, words.tokens)
    for name, value in figures.items():
        if name != "turns":
            print(f"{name:<36} {value:.4g}" if isinstance(value, float) else f"{name:<36} {value:,}")
    if words.small:
        return
    figures |= {"threads": torch.get_num_threads(), "torch": torch.__version__, "python": platform.python_version()}
    figures |= {"transformers": transformers.__version__, "date": datetime.date.today().isoformat()}
    figures |= {"processor": torch.backends.cpu.get_cpu_capability(), "cores": os.cpu_count(), "load": os.getloadavg()}
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"generate-{figures['date']}.json"
    path.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    print(f"written: {path}")


if __name__ == "__main__":
    main()
