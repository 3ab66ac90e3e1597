"""`batchspec eval`: from an output to metrics, gates and exit codes, through the command and real git."""

from __future__ import annotations

import json
import os
import shutil
import socket
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runner.cli.main import run
from runner.evaluation.forecast import plan_notes
from runner.evaluation.gates import Verdict, check_gates
from runner.evaluation.metrics import Difference, Metric
from runner.evaluation.scoring import across_replicates
from runner.jobspec.evaluate_options import Evaluate
from tests.cli_runner import run_cli
from tests.untrusted.checkout import git

Write = Callable[..., Path]
SPEC = """\
version: 1
name: hello
provider: local
model: gpt-4o-mini
parameters: {temperature: 0, max_tokens: 64}
input: {path: data/rows.jsonl, id: id}
prompt: {user: "{{ say }}"}
output: {path: out/hello.jsonl}
evaluate:
"""
GRADERS = """\
  slices: [lang]
  graders:
    label: {type: label, labels: [good, bad], expect: "{{ label }}", metrics: [accuracy, macro_f1, f1]}
"""
ROWS: list[dict[str, Any]] = [
    {"id": n, "say": f"{'good' if n % 10 else 'bad'}", "label": "good", "lang": "de" if n % 2 else "en", "pair": n // 2}
    for n in range(60)
]
"""The embedded service's `echo` answers with the prompt: 54 of 60 are right."""


def lines(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def batchspec(root: Path, *arguments: str, expect: int = 0) -> str:
    done = run_cli([*arguments], cwd=root)
    assert done.returncode == expect, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def applied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A committed project whose output is written. Tests copy it."""
    root = tmp_path_factory.mktemp("applied")
    (root / "home").mkdir()
    for name, text in {
        "batchspec.yaml": "version: 1\nproject: tests\n",
        "specs/hello.yaml": SPEC + GRADERS + "  gates: [{metric: label, at_least: 0.8}]\n",
        "data/rows.jsonl": lines(ROWS),
        ".gitignore": ".batchspec/\n",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    done = run_cli(["apply", "--yes"], cwd=root, env={**os.environ, "HOME": str(root / "home")})
    assert done.returncode == 0, done.stdout + done.stderr
    return root


@pytest.fixture
def root(applied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    copy = tmp_path / "copy"
    shutil.copytree(applied, copy)
    monkeypatch.chdir(copy)
    git(copy, "init", "--quiet", "--initial-branch=main")
    commit(copy, "Write the first answers")
    return copy


def commit(root: Path, subject: str) -> None:
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "-m", subject)


def graders(root: Path, text: str) -> None:
    (root / "specs/hello.yaml").write_text(SPEC + text)


def document(capsys: pytest.CaptureFixture[str], *arguments: str, expect: int = 0) -> dict[str, Any]:
    capsys.readouterr()
    assert run(["eval", "--format", "json", *arguments]) == expect
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def metric(found: dict[str, Any], name: str, selected: dict[str, str] | None = None) -> dict[str, Any]:
    [one] = [line for line in found["metrics"] if (line["metric"], line["slice"]) == (name, selected)]
    return dict(one)


def test_values_intervals_and_counts(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = document(capsys)
    label = metric(found, "label")
    # All rows with one prompt are one request, and so one cluster.
    assert (label["value"], label["rows"], label["clusters"], label["sum"]) == (0.9, 60, 2, 54.0)
    assert metric(found, "label", {"lang": "de"})["value"] == 1.0
    assert metric(found, "label.f1.good")["value"] == round(2 * 54 / 114, 6)
    assert metric(found, "label.macro_f1")["value"] == round(54 / 114, 6)
    assert [gate["verdict"] for gate in found["gates"]] == ["passes"]


def test_grading_opens_no_connection(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert document(capsys)["errors"] == {}


def test_a_gate_that_fails_exits_with_5(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    graders(root, GRADERS + "  gates: [{metric: label, at_least: 0.95}]\n")
    assert document(capsys, expect=5)["gates"][0]["verdict"] == "fails"
    assert document(capsys, "--no-check")["gates"][0]["blocks"]


def test_text_markdown_and_junit(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    graders(
        root, GRADERS + "  gates: [{metric: label, at_least: 0.8}, {metric: label, at_least: 0.8, confident: true}]\n"
    )
    assert run(["eval"]) == 5
    text = capsys.readouterr().out
    assert "label                     0.900  [0.014, 1.000]" in text
    assert "gate undecided  label >= 0.8 with confidence" in text
    assert run(["eval", "--format", "markdown"]) == 5
    assert "| `label` | 0.900 |" in capsys.readouterr().out
    assert run(["eval", "--format", "junit"]) == 5
    [suite] = ET.fromstring(capsys.readouterr().out)
    assert (suite.get("tests"), suite.get("failures")) == ("2", "1")


def test_a_changed_grader_asks_nothing(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    graders(root, "  graders: {long: {type: expression, expression: 'answer | length > 3'}}\n")
    assert metric(document(capsys), "long")["value"] == 0.9
    assert run(["plan"]) == 0
    assert "Nothing to do" in capsys.readouterr().out


def test_requests_without_an_answer_make_it_stale(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "specs/hello.yaml").write_text(
        (SPEC + GRADERS + "  gates: [{metric: label, at_least: 0}]\n").replace("{{ say }}", "{{ say }}!")
    )
    found = document(capsys, expect=5)
    assert found["gates"][0]["verdict"] == "stale"
    assert found["stale"] == {"hello": "requests of today's spec have no answer yet; run `batchspec apply`"}


def test_an_edited_output_is_stale(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = root / "out/hello.jsonl"
    output.write_text(output.read_text().replace('"bad"', '"good"'))
    assert "is not the output that specs/hello.lock records" in document(capsys, expect=5)["stale"]["hello"]


def test_failed_rows_score_0_under_their_own_name(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = root / "out/hello.jsonl"
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    rows[1] |= {"text": None, "error": {"code": "server_error", "message": ""}}
    rows[2] |= {"finish_reason": "length"}
    rows[3] |= {"text": None, "refusal": "I won't."}
    rows[4] |= {"text": " "}
    output.write_text(lines(rows))
    found = metric(document(capsys, expect=5), "label")
    assert (found["rows"], found["sum"]) == (60, 50.0)
    assert found["no_answer"] == {"failed": 1, "refused": 1, "cut_off": 1, "no_answer": 1}


@pytest.mark.slow
def test_a_teams_loop(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A worse prompt fails the gate against main, a better one passes; a corrected label moves both sides."""
    gate = GRADERS + "  against: main\n  gates: [{metric: label, max_drop: 0.05}]\n"
    rows = [{**row, "say": f"{row['say']}{' ' * row['id']}"} for row in ROWS]  # each row asks its own request
    (root / "data/rows.jsonl").write_text(lines(rows))
    graders(root, gate)
    batchspec(root, "apply", "--yes")
    commit(root, "Ask each row")
    git(root, "switch", "--quiet", "--create", "worse")
    worse = (SPEC + gate).replace('"{{ say }}"', "\"{{ say | replace('good', 'bad') if row.id % 3 == 0 else say }}\"")
    (root / "specs/hello.yaml").write_text(worse)
    batchspec(root, "apply", "--yes", expect=5)
    commit(root, "Try another prompt")
    found = document(capsys, expect=5)
    change = metric(found, "label")["difference"]
    assert found["gates"][0]["verdict"] == "fails"
    assert (change["against"], change["rows"], change["value"]) == ("main", 60, -0.3)
    assert change["high"] < -0.05
    assert change["p"] < 0.001
    capsys.readouterr()
    assert run(["diff", "main..", "hello", "-n", "2"]) == 0
    told = capsys.readouterr().out
    assert "  3  label: 1 -> 0\n" in told
    assert told.endswith("  label: 18 worse, 0 better\n")
    relabelled = [{**row, "label": "bad"} if row["id"] % 3 == 0 else row for row in rows]
    (root / "data/rows.jsonl").write_text(lines(relabelled))
    assert metric(document(capsys, expect=0), "label")["difference"]["value"] == 0.3
    (root / "data/rows.jsonl").write_text(lines(rows))
    (root / "specs/hello.yaml").write_text((SPEC + gate).replace("{{ say }}", "{{ say | replace('bad', 'good') }}"))
    batchspec(root, "apply", "--yes")
    assert document(capsys)["gates"][0]["verdict"] == "passes"


def test_rows_that_the_baseline_lacks_are_counted(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    graders(root, GRADERS + "  against: HEAD\n")
    more = [*ROWS, {**ROWS[0], "id": 100, "say": "good one"}]
    (root / "data/rows.jsonl").write_text(lines(more))
    batchspec(root, "apply", "--yes")
    change = metric(document(capsys), "label")["difference"]
    assert (change["rows"], change["not_compared"]) == (60, 1)


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        pytest.param(lambda root: (root / ".gitignore").write_text("out/\n.batchspec/\n"), "", id="ignored later"),
        pytest.param(lambda root: git(root, "rm", "--quiet", "--cached", "out/hello.jsonl"), "", id="not tracked"),
    ],
)
def test_an_output_that_is_tracked_or_not(
    root: Path, capsys: pytest.CaptureFixture[str], prepare: Callable[[Path], object], message: str
) -> None:
    graders(root, GRADERS + "  against: main\n")
    prepare(root)
    assert document(capsys)["errors"] == {}
    assert not message


def test_what_prevents_a_comparison_names_the_cure(
    root: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graders(root, GRADERS)
    assert document(capsys, "--against", "nowhere", expect=1)["errors"] == {"hello": "git knows no commit nowhere"}
    commit(root, "Compare")
    shallow = tmp_path / "shallow"
    git(tmp_path, "clone", "--quiet", "--depth=1", f"file://{root}", str(shallow))
    monkeypatch.chdir(shallow)
    assert document(capsys, "--against", "main", expect=1)["errors"] == {
        "hello": "cannot find main: this clone is shallow"
    }


def test_without_graders_there_is_nothing_to_do(project: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project())
    assert run(["eval"]) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("  graders: {a: {type: exakt, expect: x}}\n", 'has type "exakt"; allowed: '),
        ("  graders: {a: {expect: x}}\n", "needs a `type`"),
        ("  graders: {a: {type: exact}}\n", "`evaluate.graders.a.expect` is missing"),
        ("  graders: {a: {type: exact, expekt: x}}\n", "did you mean `expect`?"),
        ("  graders: {a: {type: regex, pattern: '(?=x)'}}\n", "no pattern that RE2 takes"),
        ("  graders: {a: {type: number, expect: 1, tolerance: wide}}\n", "write a number, or a share such as 0.5%"),
        ("  graders: {a: {type: exact, expect: x}}\n  gates: [{metric: b, at_least: 1}]\n", "the graders are a"),
        ("  graders: {a: {type: exact, expect: x}}\n  gates: [{metric: a.f1.x, at_least: 1}]\n", "this grader has a alone"),
        ("  graders: {a: {type: exact, expect: x}}\n  gates: [{metric: a, max_drop: 0.1}]\n", "needs `against`"),
        ("  graders: {a: {type: exact, expect: x}}\n  gates: [{metric: a}]\n", "set one of `at_least`"),
        ("  graders: {a: {type: exact, expect: '{{ x'}}\n", "template: "),
    ],
)  # fmt: skip
def test_mistakes_in_a_spec(root: Path, capsys: pytest.CaptureFixture[str], text: str, message: str) -> None:
    graders(root, text)
    assert run(["validate"]) == 1
    assert message in capsys.readouterr().err


def test_replicates() -> None:
    import numpy as np

    scores = np.array([[1.0, 1, 0], [0, 0, 1], [1, 1, 1]])
    assert across_replicates(scores, "mean").tolist() == [0.666667, 0.333333, 1.0]
    assert across_replicates(scores, "majority").tolist() == [1.0, 0.0, 1.0]
    assert across_replicates(scores, "pass@2").tolist() == [1.0, 0.666667, 1.0]


def gate_verdict(gate: dict[str, Any], low: float, value: float, high: float) -> tuple[Verdict, bool]:
    evaluate = Evaluate.model_validate(
        {"graders": {"m": {"type": "exact", "expect": "x"}}, "against": "main", "gates": [{"metric": "m", **gate}]}
    )
    change = Difference("main", 50, 0, value, low, high, 0.01, 0.5)
    one = Metric("j", "m", None, value, low, high, 0.01, 50, 50, 1.0, {}, change)
    [result] = check_gates("j", evaluate, {"main": [one]}, default="main")
    return result.verdict, result.blocks


@pytest.mark.parametrize(
    ("gate", "interval", "verdict", "blocks"),
    [
        ({"at_least": 0.8}, (0.7, 0.8, 0.9), "passes", False),
        ({"at_least": 0.8}, (0.7, 0.799999, 0.9), "fails", True),
        ({"at_most": 0.1}, (0.0, 0.05, 0.2), "passes", False),
        ({"at_least": 0.8, "confident": True}, (0.8, 0.85, 0.9), "passes", False),
        ({"at_least": 0.8, "confident": True}, (0.7, 0.85, 0.9), "undecided", True),
        ({"at_least": 0.8, "confident": True, "undecided": "warn"}, (0.7, 0.85, 0.9), "undecided", False),
        ({"at_least": 0.8, "confident": True}, (0.5, 0.6, 0.7), "fails", True),
        ({"at_most": 0.2, "confident": True}, (0.3, 0.4, 0.5), "fails", True),
        ({"max_drop": 0.02}, (-0.019, 0.0, 0.02), "passes", False),
        ({"max_drop": 0.02}, (-0.02, 0.0, 0.02), "undecided", True),
        ({"max_drop": 0.02}, (-0.09, -0.05, -0.021), "fails", True),
    ],
)
def test_gates(gate: dict[str, Any], interval: tuple[float, float, float], verdict: str, blocks: bool) -> None:
    assert gate_verdict(gate, *interval) == (verdict, blocks)


def test_a_plan_tells_what_a_gate_can_show() -> None:
    """The example of the design: with 200 rows, 1 of 7; with 1,000 rows, 1 of 2."""
    evaluate = Evaluate.model_validate(
        {
            "graders": {"m": {"type": "exact", "expect": "x"}},
            "against": "main",
            "gates": [{"metric": "m", "max_drop": 0.02}],
        }
    )
    graded, difference, gate = plan_notes(evaluate, 200)
    assert graded == "graded by m, 1 gate"
    assert difference.startswith("with 200 rows, a difference below 0.063 is hard to tell from chance")
    assert gate == (
        "gate m drops at most 0.02: passes in about 1 of 7 runs even if nothing changed; with 1,000 rows: 1 of 2"
    )
    assert [*plan_notes(evaluate, 1000)][-1].endswith("about 1 of 2 runs even if nothing changed")


PYTHON = "  graders: {py: {type: python, file: graders/g.py}}\n  gates: [{metric: py, at_least: 0.5}]\n"


def python_grader(root: Path, source: str) -> None:
    graders(root, PYTHON)
    (root / "graders").mkdir()
    (root / "graders/g.py").write_text(source)


def test_an_untrusted_python_grader_runs_nothing(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    python_grader(root, "open('ran', 'w')\ndef grade(row, answer): return 1\n")
    assert run(["plan"]) == 0
    found = document(capsys, expect=5)
    assert found["gates"][0]["reason"] == "not graded"
    assert found["warnings"]["hello"] == [
        "py is not graded: it runs code of the project. If you trust it, set BATCHSPEC_TRUST_PYTHON=1"
    ]
    assert not (root / "ran").exists()


def test_a_trusted_python_grader(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BATCHSPEC_TRUST_PYTHON", "1")
    monkeypatch.setenv("MODEL_ACCESS_KEY", "a secret")
    python_grader(
        root,
        "import os\nprint('hello')\n"
        "def grade(row, answer):\n"
        "    if row['id'] == 7: return None\n"
        "    return 0.5 if 'MODEL_ACCESS_KEY' in os.environ else answer == row['label']\n",
    )
    found = metric(document(capsys), "py")
    assert (found["sum"], found["no_answer"]) == (53.0, {"no_answer": 1})


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("def grade(row, answer): return 7\n", "grade() returned 7"),
        ("def grade(row, answer): return row['nothing']\n", "KeyError: 'nothing'"),
        ("def grade(row, answer): return hash(answer) % 1000 / 1000\n", "gave two scores for one answer"),
        ("import os\ndef grade(row, answer): os._exit(1)\n", "ended or took more than"),
        ("import socket\ndef grade(row, answer): socket.create_connection(('127.0.0.1', 9))\n", "denied"),
        ("import subprocess\ndef grade(row, answer): subprocess.run(['true'])\n", "denied"),
        ("grade = 1\n", "it defines no function"),
        ("def grade(\n", "SyntaxError"),
    ],
)
def test_what_a_python_grader_may_not_do(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, source: str, message: str
) -> None:
    monkeypatch.setenv("BATCHSPEC_TRUST_PYTHON", "1")
    python_grader(root, source)
    assert message in document(capsys, expect=1)["errors"]["hello"]
