"""A GPT-2 trained elsewhere (to sort letters) gives the activations that came with it."""

import base64
import json

import numpy as np
import pytest
import torch

from lamoid.assembly.batch import Batch
from lamoid.assembly.layout import plan_layout
from lamoid.assembly.likelihood import token_nats
from lamoid.weights.durable import durable_folder
from lamoid.weights.folder import load_model, open_folder
from lamoid.weights.write import write_tensors


def arrays(path):
    listed = json.loads(path.read_text())
    config = listed.pop("config")
    read = {}
    for name, entry in listed.items():
        if isinstance(entry, dict) and "data" in entry:
            values = np.frombuffer(base64.b64decode(entry["data"]), dtype="<f4").copy()
            read[name] = torch.from_numpy(values).view(entry["shape"])
    return config, read


@pytest.fixture
def sorter(data_folder, tmp_path):
    folder = data_folder / "gpt_nano_sort"
    config, tensors = arrays(folder / "gpt-nano-sort-model.json")
    words = {
        "model_type": "gpt2",
        "n_embd": config["n_embd"],
        "n_head": config["n_head"],
        "n_layer": config["n_layer"],
        "n_positions": config["block_size"],
        "vocab_size": config["vocab_size"],
        "tie_word_embeddings": False,
    }
    # Its matrices are stored as (outputs, inputs), GPT-2's files hold them the other way round.
    turned = {
        name: tensor.T.contiguous() if name.endswith(("attn.weight", "proj.weight", "fc.weight")) else tensor
        for name, tensor in tensors.items()
    }
    with durable_folder(tmp_path / "sorter") as draft:
        draft.write("config.json", json.dumps(words).encode())
        write_tensors(draft, turned)
    _, partials = arrays(folder / "gpt-nano-sort-t0-partials.json")
    return load_model(open_folder(tmp_path / "sorter")), partials


@torch.no_grad()
def test_activations(sorter):
    model, wanted = sorter
    batch = Batch(wanted["idx"].long())
    layout = plan_layout(batch, None)
    seen = {"tok_emb": model.embedding.tokens(batch.ids), "x": model.embedding(batch.ids, layout)}
    first = model.blocks[0]
    seen["ln1"] = first.norm_mixer(seen["x"])
    rows, tokens, width = seen["x"].shape
    heads = first.mixer.spec.heads
    for name in ("query", "key", "value"):
        split = getattr(first.mixer, name)(seen["ln1"]).view(rows, tokens, heads, width // heads)
        seen[name[0]] = split.transpose(1, 2)
    seen["yProj"] = first.mixer(seen["ln1"], layout)
    seen["attnResid"] = seen["x"] + seen["yProj"]
    seen["ln2"] = first.norm_feedforward(seen["attnResid"])
    seen["fc"] = first.feedforward.up(seen["ln2"])
    seen["mlp"] = first.feedforward(seen["ln2"], layout)
    stream = seen["x"]
    for index, block in enumerate(model.blocks):
        stream = seen[f"block{index}"] = block(stream, layout)
    seen["ln_f"] = model.hidden(batch)
    seen["lm_head"] = model(batch)
    seen["probs"] = model(batch).softmax(-1)
    for name, tensor in seen.items():
        torch.testing.assert_close(
            tensor, wanted[name].view(tensor.shape), rtol=1e-4, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}"
        )


@torch.no_grad()
def test_it_sorts(sorter):
    """Six letters in, the same six sorted out, one after another."""
    model, _ = sorter
    letters = torch.randint(0, 3, (50, 6), generator=torch.Generator().manual_seed(0))
    text = letters
    for _ in range(6):
        text = torch.cat([text, model(text[:, -11:])[:, -1].argmax(-1, keepdim=True)], 1)
    right = (text[:, 6:] == letters.sort(1).values).all(1)
    assert right.float().mean() > 0.9
    nats = token_nats(model.hidden(text[:, :11]), model.logits, text[:, 1:])
    assert nats[:, 5:].mean() < 0.1
