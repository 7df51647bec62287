"""Runs in an environment of its own that has llama-cpp-python: reads one question as JSON, answers as JSON.

The question: ``file``, ``texts`` to cut into tokens, ``prompts`` (token ids each) to go on with greedily for ``tokens``
tokens, and ``context``. The answer: ``ids`` of the texts and ``whole``, with the start token where the file says so;
what was ``written`` and its ``text``; and the ``logits`` behind each prompt.
"""

import json
import sys

import llama_cpp


def main() -> None:
    """Answer the question on standard input."""
    asked = json.load(sys.stdin)
    f32 = 0  # keys and values are kept as f16 else
    model = llama_cpp.Llama(
        asked["file"],
        n_ctx=asked["context"],
        n_threads=1,
        n_threads_batch=1,
        type_k=f32,
        type_v=f32,
        flash_attn=False,
        logits_all=True,
        verbose=False,
    )
    ids = [model.tokenize(text.encode(), add_bos=False, special=False) for text in asked["texts"]]
    whole = [model.tokenize(text.encode(), add_bos=True, special=False) for text in asked["texts"]]
    written, logits = [], []
    for prompt in asked["prompts"]:
        model.reset()
        model.eval(prompt)
        found = []
        logits.append([float(x) for x in model.scores[len(prompt) - 1]])
        for _ in range(asked["tokens"]):
            token = int(model.scores[model.n_tokens - 1].argmax())
            if llama_cpp.llama_vocab_is_eog(model._model.vocab, token):
                break
            found.append(token)
            model.eval([token])
        written.append(found)
    pairs = zip(asked["prompts"], written, strict=True)
    text = [model.detokenize(found, prev_tokens=prompt).decode(errors="replace") for prompt, found in pairs]
    json.dump({"ids": ids, "whole": whole, "written": written, "logits": logits, "text": text}, sys.stdout)


if __name__ == "__main__":
    main()
