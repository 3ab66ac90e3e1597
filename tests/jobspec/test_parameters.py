"""Parameters that go with the endpoint and not with the model: told before anything is submitted, and sent all the same."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from runner.jobspec.loader import Project
from tests.conftest import SPEC

Load = Callable[..., Project]


def warnings(load: Load, model: str, parameters: str, more: str = "") -> list[str]:
    spec = SPEC.replace("gpt-4o-mini", model).replace("{temperature: 0, max_tokens: 64}", parameters) + more
    return [str(warning) for warning in load({"specs/hello.yaml": spec}).warnings]


@pytest.mark.parametrize(
    ("model", "parameters", "says"),
    [
        pytest.param("o3-mini", "{max_tokens: 5}", "with reasoning models it is `max_completion_tokens`", id="max_tokens"),
        pytest.param("openai-gpt-5-mini", "{max_tokens: 5}", "`max_completion_tokens`", id="a catalogue's name"),
        pytest.param("gpt-5", "{temperature: 0}", "may refuse `temperature`", id="temperature"),
        pytest.param("gpt-4o-mini", "{reasoning_effort: low}", "does not reason", id="an effort without reasoning"),
    ],
)  # fmt: skip
def test_what_the_model_refuses_is_told(load: Load, model: str, parameters: str, says: str) -> None:
    [told] = warnings(load, model, parameters)
    assert says in told
    assert told.startswith("specs/hello.yaml:4:14: "), "the parameter's name is pointed at"


@pytest.mark.parametrize(
    ("model", "parameters", "more"),
    [
        pytest.param("o3-mini", "{max_completion_tokens: 5, reasoning_effort: low}", "", id="as the model wants them"),
        pytest.param("gpt-5", "{temperature: 1, max_completion_tokens: 5}", "", id="the only temperature there is"),
        pytest.param("gpt-5-chat-latest", "{temperature: 0, max_tokens: 5}", "", id="a model that does not reason"),
        pytest.param("gpt-5", "{max_output_tokens: 5, reasoning: {effort: low}}", "endpoint: /v1/responses\n", id="responses"),
        pytest.param("gpt-4o-mini", "{temperature: 0, max_tokens: 5}", "", id="the usual"),
    ],
)  # fmt: skip
def test_what_fits_is_not_told_of(load: Load, model: str, parameters: str, more: str) -> None:
    assert warnings(load, model, parameters, more) == []


@pytest.mark.parametrize(
    "model", ["claude-3-5-haiku-latest", "anthropic-claude-3.5-haiku", "anthropic/claude-3-5-haiku"]
)
def test_the_format_goes_with_the_model(load: Load, model: str) -> None:
    spec = SPEC.replace("gpt-4o-mini", model)
    assert load({"specs/hello.yaml": spec}).jobs[0].job.line_format == "anthropic"
    said = load({"specs/hello.yaml": spec + "format: openai\n"}).jobs[0].job
    assert (said.line_format, said.url) == ("openai", "/v1/chat/completions")


def test_a_prompt_that_names_a_file_is_told(load: Load) -> None:
    """Each row would be asked with the file's name, and paid for."""
    spec = SPEC.replace('"Say {{ text }}."', "templates/ask.j2")
    [told] = load({"specs/hello.yaml": spec, "templates/ask.j2": "x"}).warnings
    assert str(told).startswith("specs/hello.yaml:8:9: the prompt is the text templates/ask.j2")
    assert not load({"specs/hello.yaml": spec.replace("ask", "other")}).warnings
