"""A tokenizer with a chat template: the control tokens that it writes are added, and the template is saved with it."""

import json

from lamoid.text.chat_templates import BUILT_IN
from lamoid.text.document import added_token
from lamoid.text.tokenizer import Tokenizer


def with_template(tokenizer: Tokenizer, name: str, *, may_grow: bool) -> Tokenizer:
    """Give the tokenizer with a built-in template in its ``chat_template.jinja``.

    With ``may_grow`` the control tokens that it lacks are added behind the vocabulary, for a model that is yet to be
    made; otherwise it stays as it is if it lacks one, and whoever chooses the template says so.
    """
    template = BUILT_IN.get(name)
    if template is None:
        return tokenizer
    known = set(tokenizer.pieces())
    lacking = [token for token in template.controls if token not in known]
    if lacking and not may_grow:
        return tokenizer
    files = tokenizer.files()
    if lacking:
        document = json.loads(files["tokenizer.json"])
        numbers = range(tokenizer.vocab, tokenizer.vocab + len(lacking))
        more = [added_token(token, number) for token, number in zip(lacking, numbers, strict=True)]
        document["added_tokens"] = [*(document.get("added_tokens") or ()), *more]
        files["tokenizer.json"] = json.dumps(document, ensure_ascii=False).encode()
    files["chat_template.jinja"] = template.source.encode()
    return Tokenizer(files, name=tokenizer.name)
