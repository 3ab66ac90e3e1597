"""Input tokens are counted by the model's own tokenizer and OpenAI's published rule, and say how sure that is."""

from __future__ import annotations

import functools
import json
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.jobspec.loader import Project
from runner.money.tokens import Certainty, Count, TokenCounter, encoding_of
from runner.planner.render import first_requests


@pytest.fixture(scope="module")
def o200k() -> TokenCounter:
    encoding = encoding_of("gpt-4o-mini")
    assert encoding is not None
    return TokenCounter(encoding)


def body(**fields: object) -> dict[str, object]:
    return {"model": "gpt-4o-mini", **fields}


# The cookbook's own example: six messages, for which OpenAI's API counted 124 prompt tokens with gpt-4o and gpt-4o-mini,
# and 129 with gpt-4 and gpt-3.5-turbo.
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


@pytest.mark.parametrize(("model", "tokens"), [("gpt-4o-mini", 124), ("gpt-4o", 124), ("gpt-4", 129)])
def test_the_cookbooks_example_comes_to_what_the_api_counted(model: str, tokens: int) -> None:
    encoding = encoding_of(model)
    assert encoding is not None
    assert TokenCounter(encoding).count(body(messages=COOKBOOK)) == Count(tokens, Certainty.EXACT)


def test_a_response_counts_like_the_same_messages(o200k: TokenCounter) -> None:
    chat = body(messages=[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Say hello."}])
    response = body(instructions="Be brief.", input="Say hello.", max_output_tokens=5)
    listed = body(
        instructions="Be brief.", input=[{"role": "user", "content": [{"type": "input_text", "text": "Say hello."}]}]
    )
    assert o200k.count(chat) == o200k.count(response) == o200k.count(listed) == Count(17, Certainty.EXACT)


def test_schemas_and_tools_are_counted_as_text_and_marked_assumed(o200k: TokenCounter) -> None:
    plain = o200k.count(body(messages=[{"role": "user", "content": "x"}]))
    schema = o200k.count(
        body(messages=[{"role": "user", "content": "x"}], response_format={"type": "json_schema", "json_schema": {}})
    )
    assert schema.tokens > plain.tokens
    assert schema.certainty is Certainty.ASSUMED


def test_a_text_beyond_what_the_tokenizer_takes_at_once_is_counted(o200k: TokenCounter) -> None:
    word = o200k.count(body(messages=[{"role": "user", "content": "many " * 10}])).tokens
    long = o200k.count(body(messages=[{"role": "user", "content": "many " * 300_000}])).tokens
    assert long - word == 300_000 - 10
    unbroken = o200k.count(body(messages=[{"role": "user", "content": "あ" * 1_200_000}]))
    assert unbroken.tokens > 400_000


def test_text_that_looks_like_a_special_token_is_text(o200k: TokenCounter) -> None:
    assert o200k.count(body(messages=[{"role": "user", "content": "<|endoftext|>"}])).tokens > 3 + 1 + 3 + 1


@pytest.mark.parametrize(
    ("model", "name", "certainty"),
    [
        ("gpt-4o-mini", "o200k_base", Certainty.EXACT),
        ("openai-gpt-4o-mini", "o200k_base", Certainty.EXACT),
        ("gpt-4.1-mini-2025-04-14", "o200k_base", Certainty.EXACT),
        ("gpt-4", "cl100k_base", Certainty.EXACT),
        ("gpt-4-turbo", "cl100k_base", Certainty.EXACT),
        ("gpt-3.5-turbo", "cl100k_base", Certainty.EXACT),
        ("gpt-5-mini", "o200k_base", Certainty.ASSUMED),
        ("gpt-4.5-preview", "o200k_base", Certainty.ASSUMED),
        ("o3-mini", "o200k_base", Certainty.ASSUMED),
    ],
)
def test_the_encoding_of_a_model(model: str, name: str, certainty: Certainty) -> None:
    found = encoding_of(model)
    assert found is not None
    assert (found.name, found.certainty) == (name, certainty)


@pytest.mark.parametrize("model", ["claude-3-5-haiku-latest", "llama3.3-70b-instruct", "smollm", "olmo-2"])
def test_other_models_have_no_public_tokenizer(model: str) -> None:
    assert encoding_of(model) is None


def test_real_requests_are_counted(
    load: Callable[[Mapping[str, str | bytes] | None], Project], o200k: TokenCounter
) -> None:
    """What the planner renders is what is counted: "Be brief." is 3 tokens, "Say one." 3, roles 1 each, 3 a message, 3."""
    [job] = load(None).jobs
    root = Path(load(None).root)
    counts = [o200k.count(json.loads(line)["body"]) for _, line in first_requests(job, root, 3)]
    assert counts == [Count(17, Certainty.EXACT)] * 3


PIECES = [
    "a",
    "The",
    " the",
    "ing",
    "12",
    "3456",
    "é",
    "日本",
    "😀",
    "<|endoftext|>",
    "'ll",
    "\u2028",
    "\t",
    "\n",
    "  ",
    "\x00",
]


@settings(max_examples=200, deadline=None)
@given(text=st.lists(st.sampled_from(PIECES) | st.text(max_size=5), max_size=40).map("".join))
@pytest.mark.parametrize("model", ["gpt-4o-mini", "gpt-4"])
def test_tokens_are_those_of_the_public_tokenizer(model: str, text: str) -> None:
    """Counting goes past the package's own front, which takes half a second and 73 MB to load."""
    encoding = encoding_of(model)
    assert encoding is not None
    counter, plain = (
        TokenCounter(encoding),
        TokenCounter(encoding).count(body(messages=[{"role": "user", "content": ""}])),
    )
    counted = counter.count(body(messages=[{"role": "user", "content": text}]))
    assert counted.tokens - plain.tokens == len(public(encoding.name).encode_ordinary(text))


@functools.cache
def public(name: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of how it opens its data
        from bpe_openai import get_encoding

        return get_encoding(name)
