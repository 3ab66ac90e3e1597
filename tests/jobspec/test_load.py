"""Specs: every problem at its place, in words; any text at all gives a project or a SpecError."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner.base.repository_paths import readable
from runner.errors import SpecError, TrustError
from runner.jobspec.loader import Project, load_project
from runner.jobspec.trust import check_key_host, find_key, resolve_env, resolve_webhook_secret
from tests.conftest import SPEC

Load = Callable[..., Project]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(("model:", "modle:"), ":3:1: there is no key `modle` here (did you mean `model`?)", id="unknown key"),
        pytest.param(("name: hello", "name: hello\nname: x"), ":3:1: `name` is repeated; the first one is at line 2", id="doubled"),
        pytest.param(("name: hello", "name: on"), ":2:7: on is read as a boolean", id="a boolean of YAML 1.1"),
        pytest.param(("name: hello", "name: 2026-11-23"), "is read as a date", id="a date"),
        pytest.param(("max_tokens: 64", "max_tokens: 012"), 'write "012"', id="an octal of YAML 1.1"),
        pytest.param(("temperature: 0", "temperature: 3"), "from 0 to 2", id="temperature"),
        pytest.param(("max_tokens: 64", "n: 2"), "use `replicates`", id="n"),
        pytest.param(("out/hello.jsonl", "../x.jsonl"), "`..`", id="an output outside"),
        pytest.param(("out/hello.jsonl", "/x.jsonl"), "absolute", id="an absolute output"),
        pytest.param(("out/hello.jsonl", "out/x.txt"), "must end in .jsonl", id="an output of no known format"),
        pytest.param(("version: 1", "version: 2"), "allowed: 1", id="another version"),
        pytest.param(("{temperature: 0, max_tokens: 64}", "{temperature: 0, max_output_tokens: 4}"), "it is `max_tokens`", id="wrong name"),
        pytest.param(('user: "Say {{ text }}."', "user: {template: templates/no.j2}"), "there is no template", id="no template"),
        pytest.param(("name: hello", "name: [a"), "not valid YAML", id="syntax"),
        pytest.param(("version: 1", "version: 1\n\tx: 1"), "a tab", id="a tab"),
        pytest.param(("name: hello", "name: !!python/name:os.system x"), "not supported", id="a tag"),
    ],
)  # fmt: skip
def test_a_broken_spec_is_told_at_its_place(load: Load, change: tuple[str, str], message: str) -> None:
    with pytest.raises(SpecError) as caught:
        load({"specs/hello.yaml": SPEC.replace(*change)})
    assert message in str(caught.value)
    assert "specs/hello.yaml:" in str(caught.value)


def test_all_problems_of_all_files_come_at_once(load: Load) -> None:
    with pytest.raises(SpecError) as caught:
        load({"specs/hello.yaml": SPEC.replace("model:", "modle:"), "specs/other.yaml": "version: 1\nname: 7\n"})
    assert {problem.file for problem in caught.value.problems} == {"specs/hello.yaml", "specs/other.yaml"}


def test_two_jobs_may_not_share_name_or_output(load: Load) -> None:
    with pytest.raises(SpecError) as caught:
        load({"specs/other.yaml": SPEC})
    assert "another job has this name already: specs/hello.yaml:2:7" in str(caught.value)
    assert "another job writes this file already" in str(caught.value)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(alphabet=st.characters(codec="utf-8")) | st.binary().map(lambda b: b.decode("latin-1")))
def test_any_text_is_a_project_or_a_spec_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "specs").mkdir(exist_ok=True)
    (tmp_path / "specs" / "a.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(SpecError):
        load_project(tmp_path, variables={}, provider=None, environ={})


def test_vars_are_set_only_where_declared(project: Callable[..., Path]) -> None:
    root = project({"specs/hello.yaml": SPEC + "vars: {lang: en, count: 1}\n"})
    loaded = load_project(root, variables={"lang": "fr", "count": "2"}, provider=None, environ={})
    assert loaded.jobs[0].job.vars == {"lang": "fr", "count": 2}
    with pytest.raises(SpecError, match="did you mean `lang`"):
        load_project(root, variables={"lagn": "fr"}, provider=None, environ={})


@pytest.mark.parametrize(
    ("url", "environ", "trusted"),
    [
        pytest.param("https://inference.do-ai.run", {}, True, id="the provider's own"),
        pytest.param("https://INFERENCE.do-ai.run./v1", {}, True, id="case and trailing dot"),
        pytest.param("http://inference.do-ai.run", {}, False, id="no https"),
        pytest.param("https://inference.do-ai.run@evil.example", {}, False, id="a user that looks like a host"),
        pytest.param("https://inference.do-ai.run.evil.example", {}, False, id="a longer host"),
        pytest.param("https://evil.example", {}, False, id="a stranger"),
        pytest.param(
            "https://own.example", {"BATCHSPEC_TRUST_HOSTS": "own.example"}, True, id="trusted by the environment"
        ),
        pytest.param("http://own.example", {"BATCHSPEC_TRUST_HOSTS": "own.example"}, False, id="trusted, but no https"),
        pytest.param("http://127.0.0.1:8080", {}, True, id="loopback"),
        pytest.param("http://[::1]:8080", {}, True, id="loopback, IPv6"),
        pytest.param("http://127.0.0.1.evil.example", {}, False, id="looks like loopback"),
        pytest.param("https://inference.do-ai.run:8443", {}, False, id="another port"),
    ],
)
def test_keys_go_only_where_they_may(url: str, environ: dict[str, str], trusted: bool) -> None:
    if trusted:
        check_key_host(url, environ)
    else:
        with pytest.raises(TrustError):
            check_key_host(url, environ)


def test_only_named_variables_are_secrets() -> None:
    environ = {"AWS_SECRET": "s", "BATCHSPEC_X": "x", "OWN": "o", "BATCHSPEC_ALLOW_ENV": "OWN"}
    assert resolve_env("BATCHSPEC_X", environ) == "x"
    assert resolve_env("OWN", environ) == "o"
    for name in ("AWS_SECRET", "BATCHSPEC_ALLOW_ENV", "BATCHSPEC_MISSING", "BATCHSPEC_WEBHOOK_X"):
        with pytest.raises(TrustError, match=name):
            resolve_env(name, {"BATCHSPEC_WEBHOOK_X": "w", **environ})


def test_a_webhook_takes_no_other_secret_of_batchspec() -> None:
    secrets = ("BATCHSPEC_X", "BATCHSPEC_PLAN_KEY", "BATCHSPEC_GIT_TOKEN", "BATCHSPEC_ALLOW_ENV", "MODEL_ACCESS_KEY")
    environ = dict.fromkeys(secrets, "x") | {"BATCHSPEC_WEBHOOK_A": "a", "OWN": "o", "BATCHSPEC_ALLOW_ENV": "OWN"}
    assert resolve_webhook_secret("BATCHSPEC_WEBHOOK_A", environ) == "a"
    assert resolve_webhook_secret("OWN", environ) == "o"
    for name in secrets:
        with pytest.raises(TrustError, match=f"{name} may not be used"):
            resolve_webhook_secret(name, environ)


def test_keys_are_looked_for_in_order(load: Load) -> None:
    profile = load(provider=None).jobs[0].profile
    assert find_key(profile, {"GRADIENT_API_KEY": "g", "DIGITALOCEAN_TOKEN": "d"}) == "d"
    assert find_key(profile, {}) is None


def test_paths_stay_inside_after_symlinks(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "link").symlink_to(tmp_path)
    assert readable(tmp_path / "in", "a/b") == tmp_path / "in" / "a/b"
    for path in ("../x", "link/x", "/etc/passwd"):
        with pytest.raises(TrustError):
            readable(tmp_path / "in", path)
