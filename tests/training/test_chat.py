"""Conversations as texts, and the tokens of the answers, compared with the mask that transformers makes itself."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ray_itl.errors import InputError
from ray_itl.training.chat import WITHOUT_TEMPLATE, chat_texts, chat_tokens, is_chat
from ray_itl.training.examples import Examples
from ray_itl.training.inputs import without_predictions
from ray_itl.training.models.language_model import CausalLm
from ray_itl.training.models.sentence_encoder import SentenceEncoder
from ray_itl.training.objectives import CausalLanguageModelling, evaluate

transformers = pytest.importorskip("transformers")
PLAIN = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
MARKED = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}{% if m['role'] == 'assistant' %}{% generation %}"
    "{{ m['content'] + '<|im_end|>' }}{% endgeneration %}{% else %}{{ m['content'] + '<|im_end|>' }}{% endif %}"
    "{{ '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SILENT = PLAIN.partition("{% if add")[0]
"""As PLAIN, but never asks for an answer."""
STRIPPED = PLAIN.replace("m['content']", "(m['content'] | trim)")
FORGETFUL = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}{% if loop.last or m['role'] != 'assistant' %}"
    "{{ m['content'] }}{% endif %}{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
CHAT = [
    {"role": "system", "content": "be brief"},
    {"role": "user", "content": "where is the cat, ä?"},
    {"role": "assistant", "content": "on the mat é"},
    {"role": "user", "content": "and the dog"},
    {"role": "assistant", "content": "the dog"},
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of two layers, and a tokenizer of bytes and pairs of them with the tokens of ChatML."""
    tokenizers = pytest.importorskip("tokenizers")

    path = tmp_path_factory.mktemp("chat")
    pairs = tokenizers.Tokenizer(tokenizers.models.BPE())
    pairs.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    pairs.decoder = tokenizers.decoders.ByteLevel()
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    special = ["<|im_start|>", "<|im_end|>"]
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=400, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    pairs.train_from_iterator([message["content"] for message in CHAT] * 3, trainer)
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=pairs, bos_token=special[0], eos_token=special[1])
    fast.save_pretrained(path)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        transformers.LlamaForCausalLM(transformers.LlamaConfig(vocab_size=len(fast), **sizes)).save_pretrained(path)
    return path


def tokenizer(folder: Path, template: str | None) -> Any:
    found = transformers.AutoTokenizer.from_pretrained(folder)
    found.chat_template = template
    return found


def column(*chats: list[dict[str, Any]] | None) -> pa.Array:
    return pa.array(chats, pa.list_(pa.struct({"role": pa.string(), "content": pa.string()})))


def answers_of(tokenizer: Any, tokens: Any) -> str:
    return tokenizer.decode([i for i, own in zip(tokens.ids, tokens.is_answer, strict=True) if own])


turns = st.lists(
    st.tuples(st.text("ab é\n", min_size=1, max_size=9), st.text("ab é\n", min_size=1, max_size=9)),
    min_size=1,
    max_size=3,
)


@settings(max_examples=60, deadline=None)
@given(turns, st.integers(1, 60))
def test_answers_are_those_that_transformers_tells(folder: Path, pairs: list[tuple[str, str]], most: int) -> None:
    roles = ("user", "assistant")
    chat = [{"role": role, "content": text} for pair in pairs for role, text in zip(roles, pair, strict=True)]
    marked = tokenizer(folder, MARKED)
    expected = marked.apply_chat_template(
        chat, return_dict=True, return_assistant_tokens_mask=True, truncation=True, max_length=most
    )
    for template in (PLAIN, MARKED):
        (found,) = chat_tokens(tokenizer(folder, template), column(chat), most)
        assert found.ids == expected["input_ids"]
        assert found.is_answer == [bool(mark) for mark in expected["assistant_masks"]]
        assert found.num_bytes == len(answers_of(marked, found).encode()) or "\ufffd" in answers_of(marked, found)


@pytest.mark.parametrize("template", [PLAIN, MARKED, SILENT, STRIPPED])
def test_answers_are_what_the_assistant_says_with_its_end(folder: Path, template: str) -> None:
    own = tokenizer(folder, template)
    (found,) = chat_tokens(own, column(CHAT), 1000)
    assert answers_of(own, found) == "on the mat é<|im_end|>the dog<|im_end|>"
    assert found.num_bytes == len("on the mat é<|im_end|>the dog<|im_end|>".encode())
    assert own.decode(found.ids) == own.apply_chat_template(CHAT, tokenize=False)


def test_without_a_template_conversations_are_lines_and_that_is_said(folder: Path) -> None:
    own = tokenizer(folder, None)
    assert chat_texts(own, column(CHAT[1:3])) == ["user: where is the cat, ä?\n\nassistant: on the mat é<|im_end|>\n\n"]
    (found,) = chat_tokens(own, column(CHAT[1:3]), 1000)
    assert answers_of(own, found).strip() == "on the mat é<|im_end|>"
    assert not tokenizer(folder, None).chat_template
    learner = CausalLm(str(folder))
    assert learner.remarks(column(CHAT).type) == [WITHOUT_TEMPLATE]
    assert learner.remarks(pa.string()) == []
    learner.tokenizer.chat_template = PLAIN
    assert learner.remarks(column(CHAT).type) == []


def test_a_start_that_marks_turns_is_told_of_where_texts_are_read_after_it(folder: Path) -> None:
    learner = CausalLm(str(folder))
    once = "{{ bos_token }}{% for m in messages %}{{ m['role'] + m['content'] + eos_token }}{% endfor %}"
    for template, is_told in ((None, False), (PLAIN, True), (MARKED, True), (once, False), ("{{ none.x }}", False)):
        learner.tokenizer.chat_template = template
        assert [remark[:34] for remark in learner.remarks(pa.string())] == [
            "texts are read after <|im_start|>,"
        ] * is_told
    named = CausalLm(str(folder), start_token="<|im_start|>")
    named.tokenizer.chat_template = PLAIN
    assert named.remarks(pa.string()) == []


@pytest.mark.parametrize(
    ("chat", "template", "message"),
    [
        (None, PLAIN, "row 1 .*it has no messages"),
        ([], PLAIN, "row 1 .*it has no messages"),
        ([{"role": "user", "content": None}], PLAIN, "row 1 .*message 0 has no role or content"),
        ([{"role": None, "content": "a"}], PLAIN, "row 1 .*message 0 has no role or content"),
        (CHAT[2:], PLAIN, "row 1 .*begins with an answer"),
        (CHAT, FORGETFUL, r"row 0 .*writes earlier turns anew.*\{% generation %\}"),
        (CHAT, "{{ raise_exception('roles must alternate') }}", "row 0 .*refuses it .roles must alternate"),
    ],
)
def test_what_cannot_be_read_is_named(folder: Path, chat: Any, template: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        chat_tokens(tokenizer(folder, template), column(CHAT, chat), 100)


def test_types_of_conversations_are_known() -> None:
    assert is_chat(column(CHAT).type)
    assert is_chat(pa.large_list(pa.struct({"content": pa.string(), "role": pa.string(), "name": pa.string()})))
    assert not is_chat(pa.list_(pa.struct({"from": pa.string(), "value": pa.string()})))
    assert not is_chat(pa.string())
    assert not is_chat(pa.list_(pa.float32()))


@pytest.fixture
def learner(folder: Path) -> CausalLm:
    found = CausalLm(str(folder), max_tokens=60)
    found.tokenizer.chat_template = PLAIN
    return found.eval()


def test_inputs_begin_as_the_template_does_and_mark_the_answers(learner: CausalLm) -> None:
    inputs = learner.encode(column(CHAT, CHAT[1:3]))
    texts = [learner.tokenizer.apply_chat_template(chat, tokenize=False) for chat in (CHAT, CHAT[1:3])]
    for row, text in enumerate(texts):
        ids = learner.tokenizer(text, add_special_tokens=False)["input_ids"][:61]
        assert inputs["input_ids"][row, : len(ids)].tolist() == ids
        assert int(inputs["attention_mask"][row].sum()) == len(ids)
    marked = inputs["input_ids"][1][inputs["answers"][1].bool()]
    assert learner.tokenizer.decode(marked) == "on the mat é<|im_end|>"
    assert not (inputs["answers"] > inputs["attention_mask"]).any()


def test_the_loss_is_that_of_a_hand_written_loop_over_the_answers(learner: CausalLm) -> None:
    some = Examples(learner.encode(column(CHAT, CHAT[1:3])))
    nats, count = 0.0, 0
    with torch.no_grad():
        for row in range(2):
            length = int(some.inputs["attention_mask"][row].sum())
            ids = some.inputs["input_ids"][row : row + 1, :length]
            logs = learner.model(ids).logits[0].double().log_softmax(dim=1)
            for t in range(1, length):
                if some.inputs["answers"][row, t]:
                    nats, count = nats - logs[t - 1, ids[0, t]].item(), count + 1
    scores = evaluate(learner, some, CausalLanguageModelling(), 1)
    assert scores["loss"] == pytest.approx(nats / count, rel=1e-5)
    total, weight = CausalLanguageModelling().loss(learner, some)
    assert (total.item(), int(weight)) == (pytest.approx(nats, rel=1e-5), count)


def test_nothing_but_the_answers_is_learnt(learner: CausalLm) -> None:
    """Other questions of as many tokens change what is read, never which tokens are scored."""
    some = Examples(learner.encode(column(CHAT)))
    learner.zero_grad()
    CausalLanguageModelling().loss(learner, some)[0].backward()
    assert sum(float(p.grad.abs().sum()) for p in learner.parameters() if p.grad is not None) > 0
    learner.zero_grad()
    some.inputs["answers"].zero_()
    total, weight = CausalLanguageModelling().loss(learner, some)
    assert (total.item(), int(weight)) == (0.0, 0)


def test_conversations_without_an_answer_in_sight_are_refused_where_there_is_something_to_learn(folder: Path) -> None:
    short = CausalLm(str(folder), max_tokens=4)
    short.tokenizer.chat_template = PLAIN
    inputs = short.encode(column(CHAT, CHAT[1:3]))
    assert without_predictions(inputs) == [0, 1]
    with pytest.raises(InputError, match=r"example 0 .* raise model\.options\.max_tokens: no answer is left within it"):
        CausalLanguageModelling().check(short, Examples(inputs))
    assert short.features(inputs).shape == (2, 16)  # embedded they are all the same


def test_sentence_encoders_read_conversations_as_texts(folder: Path, tmp_path: Path) -> None:
    own = tokenizer(folder, PLAIN)
    own.pad_token = "<|im_end|>"
    own.save_pretrained(tmp_path)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    transformers.LlamaModel(transformers.LlamaConfig(vocab_size=len(own), **sizes)).save_pretrained(tmp_path)
    encoder = SentenceEncoder(str(tmp_path))
    found = encoder.encode(column(CHAT))
    same = encoder._tokenizer(
        own.apply_chat_template(CHAT, tokenize=False), add_special_tokens=False, padding="max_length", max_length=128
    )
    assert found["input_ids"][0].tolist() == same["input_ids"]
    assert encoder.remarks(column(CHAT).type) == []
