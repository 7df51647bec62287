"""Forward and backward of an assembled Llama, BERT and T5 beside transformers' own, eager and compiled.

Both sides have the same weights, read from one folder, in one process, another for each comparison; they take turns at
going first, and the figures are medians over the turns, all of which are kept, the ratio the median of the turns' own
ratios. Each turn is a forward pass to logits over the vocabulary, the same mean cross-entropy, and a backward pass to
every weight; nothing is dropped out. What either side frees stays with the process: a wide T5 frees and asks for 1.3 GB
a turn, and the system's new pages, up to a fifth of the time, would hide what is compared. Before any timing the logits
are compared. The limit is the time of the matrix products alone: 3 x the forward pass's operations
(``ModelSpec.flops``) at the rate of a large product measured in the same run.

    python benchmarks/assembly.py                  # widths 256 and 2048, about 10 minutes on two quiet cores, 6 GB
    python benchmarks/assembly.py --widths 256 --turns 4
"""

import argparse
import datetime
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn

from lamoid.assembly.batch import Batch
from lamoid.assembly.model import LanguageModel
from lamoid.freed_memory import keeping_freed_memory
from lamoid.weights.folder import load_model, open_folder

RESULTS = Path(__file__).parent / "results"
VOCAB, TOKENS = 8192, 128
SIZES = {256: {"layers": 4, "rows": 16, "head_width": 64}, 2048: {"layers": 2, "rows": 4, "head_width": 64}}
WANTED = 1.0


def llama(width: int, layers: int, heads: int) -> nn.Module:
    return transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=VOCAB,
            hidden_size=width,
            intermediate_size=width * 11 // 4,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            num_key_value_heads=heads // 2,
            max_position_embeddings=TOKENS,
            use_cache=False,
        )
    )


def bert(width: int, layers: int, heads: int) -> nn.Module:
    return transformers.BertForMaskedLM(
        transformers.BertConfig(
            vocab_size=VOCAB,
            hidden_size=width,
            intermediate_size=4 * width,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            max_position_embeddings=TOKENS,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        )
    )


def t5(width: int, layers: int, heads: int) -> nn.Module:
    return transformers.T5ForConditionalGeneration(
        transformers.T5Config(
            vocab_size=VOCAB,
            d_model=width,
            d_kv=width // heads,
            d_ff=4 * width,
            num_layers=layers,
            num_heads=heads,
            feed_forward_proj="gated-gelu",
            tie_word_embeddings=False,
            dropout_rate=0.0,
            decoder_start_token_id=0,
            use_cache=False,
        )
    )


MAKERS = {"llama": llama, "bert": bert, "t5": t5}


def build(family: str, width: int) -> tuple[LanguageModel, nn.Module]:
    """Draw a model of transformers and give ours with its weights, by way of a folder."""
    torch.manual_seed(0)
    size = SIZES[width]
    peer = MAKERS[family](width, size["layers"], width // size["head_width"]).eval()
    with tempfile.TemporaryDirectory() as scratch:
        peer.save_pretrained(scratch)
        ours = load_model(open_folder(Path(scratch)))
        for parameter in [*ours.parameters(), *peer.parameters()]:
            parameter.data = parameter.data.clone()  # the folder goes away, and both sides lie in memory alike
    return ours.eval(), peer


def passes(family: str, ours: Callable, peer: Callable, rows: int) -> tuple[Callable[[], Tensor], Callable[[], Tensor]]:
    """Give two functions that make the logits of the same ids."""
    ids = torch.randint(0, VOCAB, (rows, TOKENS), generator=torch.Generator().manual_seed(1))
    if family == "t5":
        batch = Batch(ids, source=Batch(ids.flip(0)))
        return lambda: ours(batch), lambda: peer(input_ids=ids.flip(0), decoder_input_ids=ids).logits
    return lambda: ours(ids), lambda: peer(input_ids=ids).logits


def both_ways(forward: Callable[[], Tensor], model: nn.Module, targets: Tensor) -> float:
    """Time one forward and backward pass, the gradients dropped before it."""
    model.zero_grad(set_to_none=True)
    began = time.perf_counter()
    logits = forward()
    nn.functional.cross_entropy(logits.flatten(0, 1), targets).backward()
    return time.perf_counter() - began


def compare(family: str, width: int, turns: int, *, compiled: bool, peak: float) -> dict[str, Any]:
    """Time both sides in turns."""
    ours, peer = build(family, width)
    rows = SIZES[width]["rows"]
    targets = torch.randint(0, VOCAB, (rows * TOKENS,), generator=torch.Generator().manual_seed(2))
    quick = (torch.compile(ours), torch.compile(peer)) if compiled else (ours, peer)
    forwards = passes(family, *quick, rows)
    with torch.no_grad():
        first, second = (forward() for forward in passes(family, ours, peer, rows))
        difference = float((first - second).abs().max() / second.abs().max())
    sides = list(zip(("lamoid", "transformers"), forwards, (ours, peer), strict=True))
    times: dict[str, list[float]] = {"lamoid": [], "transformers": []}
    with keeping_freed_memory():
        for _ in range(2):  # warm-up, and compiling
            for _, forward, model in sides:
                both_ways(forward, model, targets)
        for turn in range(turns):
            for name, forward, model in sides if turn % 2 else sides[::-1]:
                times[name].append(both_ways(forward, model, targets))
    medians = {name: statistics.median(listed) for name, listed in times.items()}
    limit = 3 * ours.spec.flops(TOKENS) * rows * TOKENS / peak
    return {
        "family": family,
        "width": width,
        "compiled": compiled,
        "parameters": ours.spec.parameters(),
        "relative_difference_of_logits": difference,
        "seconds": medians,
        "times_as_fast": statistics.median(b / a for a, b in zip(times["lamoid"], times["transformers"], strict=True)),
        "seconds_of_the_products_alone": limit,
        "turns": times,
    }


def apart(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Do it in a process of its own: what earlier models left of the heap slows one side more than the other."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(work).result()


def measure_peak() -> float:
    """Give the operations a second of a large float32 product, the best of some."""
    a, b = torch.randn(2048, 2048), torch.randn(2048, 2048)
    best = 0.0
    for _ in range(8):
        began = time.perf_counter()
        a @ b
        best = max(best, 2 * 2048**3 / (time.perf_counter() - began))
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--widths", type=int, nargs="+", default=list(SIZES), choices=list(SIZES))
    parser.add_argument("--families", nargs="+", default=list(MAKERS), choices=list(MAKERS))
    parser.add_argument("--turns", type=int, default=10, help="even, so that each side goes first as often")
    parser.add_argument("--eager", action="store_true", help="leave the compiled turns out")
    parser.add_argument("--out", type=Path, default=None, help="default benchmarks/results/assembly-DATE.json")
    words = parser.parse_args()
    peak = measure_peak()
    found = []
    for width in words.widths:
        for family in words.families:
            for compiled in (False,) if words.eager else (False, True):
                row = apart(partial(compare, family, width, words.turns, compiled=compiled, peak=peak))
                found.append(row)
                ours, theirs = (1000 * row["seconds"][name] for name in ("lamoid", "transformers"))
                print(
                    f"{family:6} width {width:4} {'compiled' if compiled else 'eager':8}"
                    f" lamoid {ours:8.1f} ms  transformers {theirs:8.1f} ms  {row['times_as_fast']:.2f} x"
                    f"  products alone {1000 * row['seconds_of_the_products_alone']:7.1f} ms"
                    f"  logits differ by {row['relative_difference_of_logits']:.0e}",
                    flush=True,
                )
    result = {
        "date": datetime.date.today().isoformat(),
        "machine": {"processor": platform.machine(), "cores": os.cpu_count(), "threads": torch.get_num_threads()},
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "tokens_a_row": TOKENS,
        "peak_flops": peak,
        "wanted": WANTED,
        "is_met": all(row["times_as_fast"] >= WANTED for row in found),
        "rows": found,
    }
    out = words.out or RESULTS / f"assembly-{result['date']}.json"
    out.write_text(json.dumps(result, indent=1) + "\n")
    print(f"written to {out}")


if __name__ == "__main__":
    main()
