"""Conversations as texts, by a model's chat template, and which parts of these the model is to learn: the answers.

A conversation is a list of messages, each with a role and a content. Templates that mark what they generate
({% generation %}) say themselves which tokens are answers. Of any other the text of an answer is what a message of the
assistant adds to the text up to there, with what the template writes to ask for one: without the role's name, and with
the token that ends the turn. Where a tokenizer has no template, a conversation is its messages in turn, each as
"role: content" on lines of its own; an answer is the content of one of the assistant's, and ends with the tokenizer's
token for the end of a text, if it has one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import pyarrow as pa

from ray_itl.errors import InputError
from ray_itl.sources.schema import which_row

ASSISTANT = "assistant"
WITHOUT_TEMPLATE = (
    'the tokenizer of the model has no chat template, so conversations are read as lines "role: content": use a model '
    "made for chats, or add a chat_template to its tokenizer"
)
_GENERATION = re.compile(r"\{%-?\s*generation\s*-?%\}")
Message = dict[str, Any]
Span = tuple[int, int]
"""First character, and the one behind the last."""


class ChatText(NamedTuple):
    """A conversation as a model reads it."""

    text: str
    answers: list[Span]


class ChatTokens(NamedTuple):
    """The same as tokens."""

    ids: list[int]
    is_answer: list[bool]
    """Whether a token is part of an answer."""
    num_bytes: int
    """Of the answers, in UTF-8."""


def is_chat(kind: pa.DataType) -> bool:
    """Whether a column of this type holds conversations: lists of structs with a role and a content."""
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind)) or not pa.types.is_struct(kind.value_type):
        return False
    return all(kind.value_type.get_field_index(name) >= 0 for name in ("role", "content"))


def conversations(column: pa.Array) -> list[list[Message]]:
    """Return the messages of every row, each with those of its fields that are set.

    Raises:
        InputError: a row that is null or empty, or a message without a role or content.
    """
    rows = column.to_pylist()
    for row, messages in enumerate(rows):
        if not messages:
            raise InputError(f"{which_row('', row)}: it has no messages; drop the row")
        for number, message in enumerate(messages):
            if not message or not message["role"] or not _has_content(message):
                raise InputError(f"{which_row('', row)}: message {number} has no role or content; mend or drop the row")
    return [[{k: v for k, v in message.items() if v is not None} for message in messages] for messages in rows]


def _has_content(message: Message) -> bool:
    """Whether a message says something, or asks for tools."""
    return message["content"] is not None or any(v for k, v in message.items() if k not in ("role", "content"))


def has_template(tokenizer: Any) -> bool:
    """Whether a tokenizer of transformers brings a chat template."""
    return bool(getattr(tokenizer, "chat_template", None))


def marks_turns(tokenizer: Any, token: str) -> bool:
    """Whether the chat template writes a token at every turn, so that for the model it does not part documents."""
    if not has_template(tokenizer):
        return False
    turns = [{"role": role, "content": "."} for role in ("user", ASSISTANT)]
    try:
        return _render(tokenizer, turns).count(token) > 1
    except InputError:  # a template for other conversations than these tells nothing
        return False


def as_people_read(column: pa.Array | pa.ChunkedArray) -> list[Any]:
    """Return the values of a column, conversations among them as texts: a line "role: content" for each message."""
    values = column.to_pylist()
    return ["\n".join(map(_line, messages or ())) for messages in values] if is_chat(column.type) else values


def _line(message: Message | None) -> str:
    told = message or {}
    return f"{told.get('role') or ''}: {'' if told.get('content') is None else told['content']}"


def chat_texts(tokenizer: Any, column: pa.Array) -> list[str]:
    """Return conversations as texts; InputError as of `conversations`, or for one that the template refuses."""
    return [
        _in_row(row, lambda messages=messages: _render(tokenizer, messages))
        for row, messages in enumerate(conversations(column))
    ]


def chat_tokens(tokenizer: Any, column: pa.Array, most: int) -> list[ChatTokens]:
    """Return conversations as tokens, each cut behind its first `most`.

    Raises:
        InputError: as of `chat_texts`; or a template by which answers cannot be told.
    """
    marks = has_template(tokenizer) and _GENERATION.search(str(tokenizer.chat_template)) is not None
    tokens_of = _marked_tokens if marks else _told_tokens
    return [
        _in_row(row, lambda messages=messages: tokens_of(tokenizer, messages, most))
        for row, messages in enumerate(conversations(column))
    ]


def chat_text(tokenizer: Any, messages: Sequence[Message]) -> ChatText:
    """Return a conversation as a text, and where its answers are there.

    Raises:
        InputError: the template refuses it, or writes earlier turns anew once another follows.
    """
    text = _render(tokenizer, messages)
    answers = [
        _answer(tokenizer, messages, number, text)
        for number, message in enumerate(messages)
        if message["role"] == ASSISTANT
    ]
    return ChatText(text, answers)


def _answer(tokenizer: Any, messages: Sequence[Message], number: int, text: str) -> Span:
    """Return where in the whole text the answer of one message is."""
    if not number:
        raise InputError("the conversation begins with an answer; give it a question, or drop the row")
    asked, answered = _render(tokenizer, messages[:number], asks=True), _render(tokenizer, messages[: number + 1])
    start = len(asked)
    if asked == _render(tokenizer, messages[:number]):  # nothing asks for an answer: the role's name is its own
        content = str(messages[number].get("content", "")).strip()
        start = max(start, answered.find(content, start))
    if not (answered.startswith(asked) and text.startswith(answered)):
        raise InputError(
            "the chat template writes earlier turns anew, so that answers cannot be told from it: give the model one "
            "that marks them with {% generation %}"
        )
    return start, max(start, len(answered.rstrip()))  # what parts the turns is not for the model to say


def _told_tokens(tokenizer: Any, messages: Sequence[Message], most: int) -> ChatTokens:
    text, answers = chat_text(tokenizer, messages)
    encoded = tokenizer(text, add_special_tokens=False, truncation=True, max_length=most, return_offsets_mapping=True)
    offsets: list[Span] = encoded["offset_mapping"]
    is_answer = [any(first < stop and end > start for start, stop in answers) for first, end in offsets]
    read = offsets[-1][1] if offsets else 0
    num_bytes = sum(len(text[start : min(stop, read)].encode()) for start, stop in answers)
    return ChatTokens(encoded["input_ids"], is_answer, num_bytes)


def _marked_tokens(tokenizer: Any, messages: Sequence[Message], most: int) -> ChatTokens:
    encoded = tokenizer.apply_chat_template(
        list(messages),
        tokenize=True,
        return_dict=True,
        return_assistant_tokens_mask=True,
        truncation=True,
        max_length=most,
        tokenizer_kwargs={"return_offsets_mapping": True},
    )
    text, is_answer = _render(tokenizer, messages), [bool(mark) for mark in encoded["assistant_masks"]]
    offsets = zip(encoded["offset_mapping"], is_answer, strict=True)
    read = {place for (first, end), own in offsets if own for place in range(first, end)}  # several may share one
    return ChatTokens(encoded["input_ids"], is_answer, sum(len(text[place].encode()) for place in read))


def _render(tokenizer: Any, messages: Sequence[Message], asks: bool = False) -> str:
    """Return the text of messages; with `asks`, up to where the next answer begins."""
    if not has_template(tokenizer):
        ends = {ASSISTANT: getattr(tokenizer, "eos_token", None) or ""}
        lines = (f"{each['role']}: {each.get('content', '')}{ends.get(each['role'], '')}\n\n" for each in messages)
        text = "".join(lines)
        return f"{text}{ASSISTANT}: " if asks else text
    try:
        return tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=asks)
    except Exception as error:  # of a template, or of what it is given
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(f"the chat template of the model refuses it ({reason}); mend or drop the row") from error


def _in_row(row: int, read: Any) -> Any:
    try:
        return read()
    except InputError as error:
        raise InputError(f"{which_row('', row)}: {error}") from error
