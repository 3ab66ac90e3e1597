"""The echo backend counts the tokens of OpenAI's models as these do. Expected numbers are from OpenAI's cookbook."""

from __future__ import annotations

from typing import Any

import pytest

from runner.service.backends.tokens import Tokenizer, tokenizer_of
from tests.service.conftest import Caller, chat, response

# "How to count tokens with tiktoken" in OpenAI's cookbook: these messages have 129 tokens for gpt-3.5-turbo and gpt-4,
# 124 for gpt-4o and gpt-4o-mini, by its rule and by the API's own count.
COOKBOOK = [
    {
        "role": "system",
        "content": "You are a helpful, pattern-following assistant that translates corporate jargon into plain English.",
    },
    {"role": "system", "name": "example_user", "content": "New synergies will help drive top-line growth."},
    {"role": "system", "name": "example_assistant", "content": "Things working well together will increase revenue."},
    {
        "role": "system",
        "name": "example_user",
        "content": "Let's circle back when we have more bandwidth to touch base on opportunities for increased leverage.",
    },
    {
        "role": "system",
        "name": "example_assistant",
        "content": "Let's talk later when we're less busy about how to do better.",
    },
    {
        "role": "user",
        "content": "This late pivot means we don't have time to boil the ocean for the client deliverable.",
    },
]


def of(model: str) -> Tokenizer:
    found = tokenizer_of(model)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("model", "tokens"),
    [
        pytest.param("gpt-3.5-turbo", 129, id="gpt-3.5"),
        pytest.param("gpt-4", 129, id="gpt-4"),
        pytest.param("gpt-4-0613", 129, id="gpt-4-dated"),
        pytest.param("gpt-4o", 124, id="gpt-4o"),
        pytest.param("gpt-4o-mini", 124, id="gpt-4o-mini"),
        pytest.param("openai-gpt-4o", 124, id="with-vendor"),
        pytest.param("gpt-5-nano", 124, id="assumed"),
        pytest.param("o3", 124, id="assumed-o"),
    ],
)
def test_the_cookbooks_example(shared: Caller, model: str, tokens: int) -> None:
    line: dict[str, Any] = chat("a", model=model, messages=COOKBOOK)
    batch = shared.run([line])
    (answer,) = shared.results(batch["id"])[0]
    assert answer["response"]["usage"]["prompt_tokens"] == tokens
    assert batch["usage"]["input_tokens"] == tokens


@pytest.mark.parametrize("model", ["claude-3-5-sonnet-latest", "m-1", "llama3.3-70b", "", None, 5])
def test_models_whose_tokenizer_is_not_public_have_none(model: Any) -> None:
    assert tokenizer_of(model) is None


def test_answers_are_counted_and_cut_by_tokens(shared: Caller) -> None:
    text = "tiktoken is great!"  # six tokens of cl100k_base, says OpenAI
    batch = shared.run(
        [chat("whole", text, model="gpt-4"), chat("cut", text, model="gpt-4", max_tokens=3)], request_id="order-1"
    )
    answers = {line["custom_id"]: line["response"] for line in shared.results(batch["id"])[0]}
    assert answers["whole"]["usage"]["completion_tokens"] == 6
    assert answers["whole"]["choices"][0]["finish_reason"] == "stop"
    assert answers["cut"]["usage"]["completion_tokens"] == 3
    assert answers["cut"]["choices"][0]["message"]["content"] == "tiktoken"
    assert answers["cut"]["choices"][0]["finish_reason"] == "length"


def test_responses_count_their_instructions_as_a_message(shared: Caller) -> None:
    """The same words cost the same at both endpoints."""
    line = response("a", "Hello there.", model="gpt-4o", instructions="Be brief.")
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello there."}]
    first = shared.run([line])["usage"]
    assert first == shared.run([chat("a", model="gpt-4o", messages=messages)])["usage"]
    assert first["input_tokens"] == 3 + 2 * (3 + 1) + 3 + 3


def test_tools_and_names_cost_too(shared: Caller) -> None:
    plain = shared.run([chat("a", model="gpt-4o")])["usage"]["input_tokens"]
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    assert shared.run([chat("a", model="gpt-4o", tools=[tool])])["usage"]["input_tokens"] > plain + 10
    named = [{"role": "user", "name": "bob", "content": "Say hello."}]
    assert shared.run([chat("a", model="gpt-4o", messages=named)])["usage"]["input_tokens"] == plain + 2


def test_long_texts_are_counted_in_pieces() -> None:
    """Also beyond what the tokenizer takes at once; cutting them between words changes nothing."""
    tokenizer = of("gpt-4o")
    assert tokenizer.count("word " * 250_000) == 250_001
    assert tokenizer.count("x" * 1_000_000) == tokenizer.count("x" * 500_000) * 2
    assert tokenizer.cut("word " * 50_000, 30_000) == ("word " * 30_000).rstrip()


def test_a_character_cut_in_two_does_no_harm() -> None:
    assert of("gpt-4o").cut("🤷🏽", 1) == "\N{REPLACEMENT CHARACTER}"
