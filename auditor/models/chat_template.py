"""Prompts in the form that a chat model was tuned on: the tokens around a user's message."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from auditor.errors import ModelError, in_short

# A message that no template contains, to find where the message stands.
_MESSAGE = "\x02message\x03"


@dataclass(frozen=True)
class ChatTurn:
    """Token ids around a user's message; what follows `after` is the model's answer.

    `before` contains BOS only if the template does.
    """

    before: list[int]
    after: list[int]

    def __len__(self) -> int:
        return len(self.before) + len(self.after)


def chat_turn(tokenizer: Any, name: str) -> ChatTurn:
    """The turn of a tokenizer's chat template; `name` is the model's.

    The message is encoded by itself, so its first and last tokens never merge with the template's.

    Raises
    ------
    ModelError
        If there is no template, or it cannot be used with a single user message.
    """
    if not getattr(tokenizer, "chat_template", None):
        raise ModelError(
            f"--chat-template needs a model whose tokenizer has a chat template; {name} has none. "
            "Use its instruction-tuned version, or leave out --chat-template."
        )
    try:
        text = tokenizer.apply_chat_template(
            [{"role": "user", "content": _MESSAGE}], tokenize=False, add_generation_prompt=True
        )
    except Exception as error:  # templates are programs, and raise anything
        raise _unusable(name, in_short(error)) from None
    if text.count(_MESSAGE) != 1:
        raise _unusable(name, "the user's message must occur in it once, unchanged")
    before, after = text.split(_MESSAGE)
    ids = tokenizer([before, after], add_special_tokens=False)["input_ids"]
    return ChatTurn(*ids)


def _unusable(name: str, why: str) -> ModelError:
    return ModelError(
        f"The chat template of {name} cannot be used with one user message ({why}). Correct the "
        "template in its tokenizer files, or leave out --chat-template."
    )
