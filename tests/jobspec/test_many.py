"""One document, several jobs: matrix, partitions, vars from everywhere, and prompts as messages."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from runner.errors import SpecError
from runner.jobspec.loader import JobSpec, Project, load_project
from runner.planner.render import first_requests
from tests.conftest import SPEC

Write = Callable[..., Path]
OUTPUT = 'output: {path: "out/{{ address }}.jsonl"}\n'
BASE = SPEC.replace("output: {path: out/hello.jsonl}\n", OUTPUT)


def load(root: Path, **variables: str) -> Project:
    return load_project(root, variables=variables, provider="local", environ={})


def jobs(project: Write, more: str, spec: str = BASE, **variables: str) -> dict[str, JobSpec]:
    return {job.address: job for job in load(project({"specs/hello.yaml": spec + more}), **variables).jobs}


def test_a_matrix_makes_a_job_of_each_combination(project: Write) -> None:
    found = jobs(project, "matrix: {temperature: [0, 0.5], model: [gpt-4o-mini, gpt-4.1-mini]}\n")
    assert list(found) == [
        "hello[model=gpt-4o-mini,temperature=0]",
        "hello[model=gpt-4.1-mini,temperature=0]",
        "hello[model=gpt-4o-mini,temperature=0.5]",
        "hello[model=gpt-4.1-mini,temperature=0.5]",
    ]
    last = found["hello[model=gpt-4.1-mini,temperature=0.5]"].job
    assert (last.model, last.parameters) == ("gpt-4.1-mini", {"temperature": 0.5, "max_tokens": 64})
    assert last.output.path == "out/hello-model-gpt-4.1-mini-temperature-0.5.jsonl"


def test_an_axis_is_a_template_or_a_var(project: Write) -> None:
    files = {
        "templates/a.j2": "A {{ text }}",
        "templates/b.j2": "B {{ text }} {{ vars.tone }}",
        "specs/hello.yaml": BASE + "vars: {tone: dry}\nmatrix: {template: [templates/a.j2, b.j2], tone: [dry, kind]}\n",
    }
    loaded = load(project(files))
    assert [job.address for job in loaded.jobs] == [
        "hello[template=templates/a.j2,tone=dry]",
        "hello[template=templates/a.j2,tone=kind]",
        "hello[template=b.j2,tone=dry]",
        "hello[template=b.j2,tone=kind]",
    ]
    _, line = next(first_requests(loaded.jobs[3], loaded.root, 1))
    assert orjson.loads(line)["body"]["messages"][1]["content"] == "B one kind"


@pytest.mark.parametrize(
    ("matrix", "addresses"),
    [
        pytest.param(
            "{model: [a, b], temperature: [0, 1], exclude: [{model: b, temperature: 1}]}",
            ["model=a,temperature=0", "model=a,temperature=1", "model=b,temperature=0"],
            id="one excluded",
        ),
        pytest.param("{model: [a, b], exclude: [{model: a}]}", ["model=b"], id="part of the axes excludes"),
        pytest.param("{model: [a], include: [{model: a, seed: 1}]}", ["model=a"], id="an include that fits adds"),
        pytest.param("{model: [a], include: [{model: c, seed: 1}]}", ["model=a", "model=c,seed=1"], id="another stands alone"),
        pytest.param("{include: [{model: a}, {model: b, seed: 1}]}", ["model=a", "model=b,seed=1"], id="includes alone"),
        pytest.param("{model: [a, b], include: [{seed: 7}]}", ["model=a", "model=b"], id="without axes it fits all"),
    ],
)  # fmt: skip
def test_include_and_exclude(project: Write, matrix: str, addresses: list[str]) -> None:
    assert list(jobs(project, f"matrix: {matrix}\n")) == [f"hello[{address}]" for address in addresses]


def test_a_matrix_as_github_documents_it(project: Write) -> None:
    """The example of GitHub's page on workflow syntax, `jobs.<job_id>.strategy.matrix.include`."""
    matrix = """\
vars: {fruit: x, animal: x, color: none, shape: none}
matrix:
  fruit: [apple, pear]
  animal: [cat, dog]
  include:
    - {color: green}
    - {color: pink, animal: cat}
    - {fruit: apple, shape: circle}
    - {fruit: banana}
    - {fruit: banana, animal: cat}
"""
    found = [job.job.vars for job in jobs(project, matrix).values()]
    none = {"fruit": "x", "animal": "x", "color": "none", "shape": "none"}
    assert found == [
        {"fruit": "apple", "animal": "cat", "color": "pink", "shape": "circle"},
        {"fruit": "apple", "animal": "dog", "color": "green", "shape": "circle"},
        {**none, "fruit": "pear", "animal": "cat", "color": "pink"},
        {**none, "fruit": "pear", "animal": "dog", "color": "green"},
        {**none, "fruit": "banana"},
        {**none, "fruit": "banana", "animal": "cat"},
    ]


def test_an_include_adds_its_values(project: Write) -> None:
    found = jobs(project, "matrix: {model: [a, b], include: [{model: a, seed: 1}, {model: a, seed: 2}]}\n")
    assert found["hello[model=a]"].job.parameters["seed"] == 2
    assert "seed" not in found["hello[model=b]"].job.parameters


def test_the_model_may_stand_in_the_matrix_alone(project: Write) -> None:
    spec = BASE.replace("model: gpt-4o-mini\n", "matrix: {model: [gpt-4o-mini, claude-3-5-haiku-latest]}\n")
    found = jobs(project, "", spec)
    assert [job.job.line_format for job in found.values()] == ["openai", "anthropic"]


def test_a_partition_has_its_own_address_and_output(project: Write) -> None:
    spec = SPEC.replace("out/hello.jsonl", '"out/{{ name }}/{{ vars.date }}.jsonl"') + "partition: date\n"
    [job] = jobs(project, "", spec, date="2026-11-23").values()
    assert job.address == "hello[date=2026-11-23]"
    assert job.job.output.path == "out/hello/2026-11-23.jsonl"
    assert job.job.vars == {"date": "2026-11-23"}
    with pytest.raises(SpecError, match="say which with --var date=VALUE"):
        jobs(project, "", spec)
    root = project({"specs/hello.yaml": spec})
    stand_in = load_project(root, variables={}, provider=None, environ={}, placeholders=True)
    assert [job.address for job in stand_in.jobs] == ["hello[date=VALUE]"]


def test_a_value_leads_to_no_other_folder(project: Write) -> None:
    spec = SPEC.replace("out/hello.jsonl", '"out/{{ vars.date }}.jsonl"') + "partition: date\n"
    [job] = jobs(project, "", spec, date="a/../../etc").values()
    assert job.job.output.path == "out/a-..-..-etc-d92a9e31.jsonl"
    with pytest.raises(SpecError, match="hidden"):
        jobs(project, "", spec, date="../../etc")
    with pytest.raises(SpecError, match="use letters, digits"):
        jobs(project, "", spec, date="a b\n")
    spec = SPEC.replace("out/hello.jsonl", '"out/{{ vars.date }}/x.jsonl"') + "partition: date\n"
    with pytest.raises(SpecError, match="can't be part of a path"):
        jobs(project, "", spec, date="..")


@pytest.mark.parametrize("hole", ["vars.date", "address"])
def test_no_two_partitions_share_an_output(project: Write, hole: str) -> None:
    """What is no part of a path is left out of values, and two values may then look alike."""
    spec = SPEC.replace("out/hello.jsonl", f'"out/{{{{ {hole} }}}}.jsonl"') + "partition: date\n"
    values = ("10:00", "10-00", "10/00", "10-00-")
    paths = {job.job.output.path for value in values for job in jobs(project, "", spec, date=value).values()}
    assert len(paths) == len(values)
    if hole == "vars.date":
        assert "out/10-00.jsonl" in paths


def test_an_input_may_go_with_the_partition(project: Write) -> None:
    spec = BASE.replace("data/rows.jsonl", '"data/{{ vars.date }}.jsonl"') + "partition: [date]\n"
    [job] = jobs(project, "", spec, date="10:00").values()
    assert job.job.input.path == "data/10-00.jsonl"


def test_vars_come_from_files_the_spec_and_the_command_line(project: Write) -> None:
    files = {
        "vars/a.yaml": "one: a\ntwo: a\nthree: a\nfour: a\n",
        "vars/b.yaml": "two: b\nthree: b\nfour: b\n",
        "specs/hello.yaml": BASE + "vars_file: [vars/a.yaml, vars/b.yaml]\nvars: {three: spec, four: spec}\n",
    }
    [job] = load(project(files), four="given").jobs
    assert job.job.vars == {"one": "a", "two": "b", "three": "spec", "four": "given"}


def test_a_var_that_another_spec_declares_is_no_error(project: Write) -> None:
    files = {"specs/other.yaml": BASE.replace("name: hello", "name: other") + "vars: {lang: en}\n"}
    assert {job.address for job in load(project(files), lang="fr").jobs} == {"hello", "other"}
    with pytest.raises(SpecError, match="--var lnag: no spec declares such a var .did you mean `lang`"):
        load(project(files), lnag="fr")


def test_the_matrix_sets_its_vars_alone(project: Write) -> None:
    with pytest.raises(SpecError, match="--var lang: the matrix sets this var"):
        jobs(project, "vars: {lang: en}\nmatrix: {lang: [en, fr]}\n", lang="de")


def test_moved_follows_each_job_of_a_matrix(project: Write) -> None:
    found = jobs(project, "matrix: {model: [a, b]}\nmoved: {from: old}\n")
    assert [job.moved_from for job in found.values()] == ["old[model=a]", "old[model=b]"]
    [job] = jobs(project, "moved: {from: 'old[model=a]'}\n").values()
    assert job.moved_from == "old[model=a]"


def test_a_job_that_is_still_there_cannot_have_moved(project: Write) -> None:
    more = "moved: {from: other}\n---\n" + BASE.replace("name: hello", "name: other")
    with pytest.raises(SpecError, match="there still is a job other"):
        jobs(project, more)


def test_what_makes_jobs_is_not_in_them(project: Write) -> None:
    """A new combination must not change the pins of those that are there."""
    one, two = (jobs(project, f"matrix: {{model: [{models}]}}\n")["hello[model=a]"].job for models in ("a", "a, b"))
    assert one == two


MESSAGES = """prompt:
  messages:
    - {role: system, content: Be brief.}
    - {role: user, content: "Say {{ text }}."}
"""
EXAMPLES = """prompt:
  messages:
    - {role: system, content: Be brief.}
    - {role: user, content: Say nine.}
    - {role: assistant, content: Nine.}
    - {role: user, content: {template: t.j2}}
"""


def body(project: Write, prompt: str, more: str = "", model: str = "gpt-4o-mini") -> Any:
    start, end = BASE.index("prompt:"), BASE.index("output:")
    spec = (BASE[:start] + prompt + BASE[end:] + more).replace("gpt-4o-mini", model)
    if "responses" in more:
        spec = spec.replace("max_tokens", "max_output_tokens")
    loaded = load(project({"specs/hello.yaml": spec, "templates/t.j2": "Say {{ text }}."}))
    _, line = next(first_requests(loaded.jobs[0], loaded.root, 1))
    request = orjson.loads(line)
    return request.get("body") or request["params"]


@pytest.mark.parametrize(
    ("more", "model"),
    [
        pytest.param("", "gpt-4o-mini", id="chat"),
        pytest.param("endpoint: /v1/responses\n", "gpt-4o-mini", id="responses"),
        pytest.param("", "claude-3-5-haiku-latest", id="anthropic"),
    ],
)
def test_both_ways_of_writing_a_prompt_are_one_request(project: Write, more: str, model: str) -> None:
    """Going from `system` and `user` to `messages` asks nothing again."""
    short = BASE[BASE.index("prompt:") : BASE.index("output:")]
    one, other = body(project, MESSAGES, more, model), body(project, short, more, model)
    assert list(one.items()) == list(other.items())


def test_examples_stand_where_the_format_wants_them(project: Write) -> None:
    turns = [
        {"role": "user", "content": "Say nine."},
        {"role": "assistant", "content": "Nine."},
        {"role": "user", "content": "Say one."},
    ]
    system = {"role": "system", "content": "Be brief."}
    assert body(project, EXAMPLES)["messages"] == [system, *turns]
    responses = body(project, EXAMPLES, "endpoint: /v1/responses\n")
    assert (responses["instructions"], responses["input"]) == ("Be brief.", turns)
    claude = body(project, EXAMPLES, model="claude-3-5-haiku-latest")
    assert (claude["system"], claude["messages"]) == ("Be brief.", turns)


def test_what_a_person_should_look_at_stops_nothing(project: Write) -> None:
    spec = BASE.replace(", id: id", "").replace("max_tokens: 64", "max_token: 64")
    loaded = load(project({"specs/hello.yaml": spec}))
    told = [str(warning) for warning in loaded.warnings]
    assert len(told) == 2
    assert "`max_token` is not known to be taken by /v1/chat/completions; it is sent as it is (did you mean" in told[0]
    assert "specs/hello.yaml:5:8: rows have no id" in told[1]


def test_an_own_server_may_take_more(project: Write) -> None:
    spec = BASE.replace("max_tokens: 64", "top_k: 5") + "provider: own\n"
    settings = "version: 1\nproviders:\n  own: {kind: local, backend: openai, base_url: 'http://127.0.0.1:1/v1'}\n"
    loaded = load_project(
        project({"specs/hello.yaml": spec, "batchspec.yaml": settings}), variables={}, provider=None, environ={}
    )
    assert "`top_k` is not known" in str(loaded.warnings[0])
