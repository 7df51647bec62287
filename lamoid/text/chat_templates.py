"""Chat templates for tokenizers that have none: their text, and the control tokens that they need."""

from dataclasses import dataclass


@dataclass(frozen=True)
class BuiltIn:
    """A template in jinja, and the control tokens that it writes."""

    source: str
    controls: tuple[str, ...]


_CHATML = """\
{% for message in messages %}
{{ '<|im_start|>' + message['role'] + '\\n' }}\
{% if message['role'] == 'assistant' %}\
{% generation %}{{ message['content'] + '<|im_end|>' }}{% endgeneration %}\
{% else %}{{ message['content'] + '<|im_end|>' }}{% endif %}{{ '\\n' }}\
{% endfor %}
{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}
"""
_PLAIN = """\
{{ bos_token }}\
{% for message in messages %}
{{ message['role'][0] | upper + message['role'][1:] + ': ' }}\
{% if message['role'] == 'assistant' %}\
{% generation %}{{ message['content'] ~ eos_token }}{% endgeneration %}\
{% else %}{{ message['content'] + '\\n' }}{% endif %}
{% endfor %}
{% if add_generation_prompt %}{{ 'Assistant: ' }}{% endif %}
"""
BUILT_IN = {
    "chatml": BuiltIn(_CHATML, ("<|im_start|>", "<|im_end|>")),
    "plain": BuiltIn(_PLAIN, ()),
}
