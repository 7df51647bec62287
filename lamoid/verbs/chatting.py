"""Questions to a model that chats: put by the template that comes with it, and the token at which an answer ends."""

import time
from collections.abc import Sequence

from lamoid.errors import InputError
from lamoid.text.chat import ChatEncoder, find_template
from lamoid.verbs.llama import Llama


def ask(llama: Llama, questions: Sequence[str]) -> tuple[list[tuple[int, ...]], frozenset[int]]:
    """Give the token ids of each question, as the one turn of a user, and the tokens that end an answer.

    A template that asks for the date is told that of today. Raises ``InputError`` where the model has no template, or
    one that cannot be used, or knows fewer tokens than its tokenizer.
    """
    template = find_template(llama.tokenizer)
    if template is None:
        cure = "write the whole text with --prompt, or name a model that was trained on chats"
        raise InputError(f"{llama.name}: chat_template", "is missing, so there is no telling how it is asked", cure)
    with ChatEncoder(llama.tokenizer, template, today=time.strftime("%Y-%m-%d")) as encoder:
        asked = [tuple(encoder.prompt([{"role": "user", "content": text}], "--chat")) for text in questions]
        ends = encoder.answer_ends()
    highest = max(max(ids, default=0) for ids in asked)
    if highest >= llama.spec.vocab:
        problem = f"gives the token {highest}, the model knows {llama.spec.vocab}"
        raise InputError(f"{llama.name}: tokenizer", problem, "use the tokenizer that the model was trained with")
    return asked, ends
