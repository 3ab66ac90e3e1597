"""A forge made of a bare git repository, a folder of state, and stand-ins for `gh`, `curl` and `pip` on PATH.

The shell steps are those of docs/ci/; what the forge's API would answer is put together here.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.cli_runner import cli_path
from tests.conftest import REPOSITORY

CI = REPOSITORY / "docs" / "ci"
PROJECT = "team/reviews"

GH = '''
"""`gh`, as far as docs/ci uses it: the answers are those that the given --jq filters give."""
import json, os, shutil, sys
from pathlib import Path
state = Path(os.environ["FORGE"])
args = sys.argv[1:]
pulls = json.loads((state / "pulls.json").read_text())
if args[:2] == ["run", "download"]:
    assert args[args.index("--name") + 1] == "batchspec-plan"
    shutil.copytree(state / "artifacts" / args[2], args[args.index("--dir") + 1])
    sys.exit()
assert args[0] == "api", args
path = next(a for a in args[1:] if a.startswith("repos/"))
what = path.removeprefix(f"repos/{os.environ['GITHUB_REPOSITORY']}/")
if what.startswith("commits/"):
    print(next((p["head"] for p in pulls if p["merged"] == what.split("/")[1]), ""))
elif what.startswith("actions/workflows/batchspec.yml/runs?head_sha="):
    head = what.split("head_sha=")[1].split("&")[0]
    print(next((p["run"] for p in pulls if p["head"] == head), ""))
elif what.startswith("pulls/"):
    print(next(p["head"] for p in pulls if p["number"] == int(what.split("/")[1])))
else:
    comments = state / "comments"
    comments.mkdir(exist_ok=True)
    if "--method" not in args:
        print("\\n".join(sorted(c.name for c in comments.iterdir() if c.read_text().startswith("<!-- batchspec plan -->"))))
    else:
        body = Path(args[args.index("--field") + 1].removeprefix("body=@")).read_text()
        verb = args[args.index("--method") + 1]
        name = what.rsplit("/", 1)[1] if verb == "PATCH" else str(len(list(comments.iterdir())) + 1)
        (comments / name).write_text(body)
'''

CURL = '''
"""`curl`, as far as docs/ci uses it on GitLab's API."""
import json, os, sys
from pathlib import Path
state = Path(os.environ["FORGE"])
args = sys.argv[1:]
url = next(a for a in args if a.startswith("https://"))
assert any(a.startswith("PRIVATE-TOKEN: ") for a in args)
pulls = json.loads((state / "pulls.json").read_text())
notes = state / "comments"
notes.mkdir(exist_ok=True)
if "/notes" in url:
    if "--request" in args:
        verb = args[args.index("--request") + 1]
        body = Path(args[args.index("--data-urlencode") + 1].removeprefix("body@")).read_text()
        name = url.rsplit("/", 1)[1] if verb == "PUT" else str(len(list(notes.iterdir())) + 1)
        (notes / name).write_text(body)
    else:
        print(json.dumps([{"id": int(n.name), "body": n.read_text()} for n in sorted(notes.iterdir())]))
elif url.endswith("/merge_requests"):
    commit = url.split("/commits/")[1].split("/")[0]
    print(json.dumps([{"sha": p["head"]} for p in pulls if p["merged"] == commit]))
elif "/pipelines?" in url:
    head = url.split("sha=")[1].split("&")[0]
    print(json.dumps([{"id": p["run"]} for p in pulls if p["head"] == head]))
elif "/pipelines/" in url:
    print(json.dumps([{"id": 1, "name": "lint"}, {"id": int(url.split("/pipelines/")[1].split("/")[0]), "name": "batchspec-plan"}]))
else:
    job = url.split("/jobs/")[1].split("/")[0]
    Path(args[args.index("--output") + 1]).write_bytes((state / "artifacts" / job / "plan.json").read_bytes())
'''


@dataclass
class Forge:
    """A remote, and runs of docs/ci against it. `service` is the URL of a running batch service."""

    folder: Path
    service: str
    key: str
    runs: int = 100
    pulls: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.remote = self.folder / "remote.git"
        self.state = self.folder / "forge"
        tools = self.folder / "tools"
        for place in (self.state, tools):
            place.mkdir(parents=True)
        self._tell()
        (tools / "batchspec").symlink_to(cli_path())
        for name, text in {"pip": "exit 0", "sleep": "exit 0"}.items():
            self._tool(tools / name, f"#!/bin/sh\n{text}\n")
        for name, text in {"gh": GH, "curl": CURL}.items():
            self._tool(tools / name, f"#!{sys.executable}\n{text}")
        self._path = f"{tools}:{os.environ['PATH']}"
        self.sh(self.folder, "git init --quiet --bare --initial-branch=main remote.git")

    def _tool(self, path: Path, text: str) -> None:
        path.write_text(text)
        path.chmod(0o755)

    def _tell(self) -> None:
        (self.state / "pulls.json").write_text(json.dumps(self.pulls))

    def environment(self, *, key: bool) -> dict[str, str]:
        """What a runner's shell has; the key only where a job is given the secret."""
        home = self.folder / "home"
        home.mkdir(exist_ok=True)
        kept = {name: os.environ[name] for name in os.environ if name.startswith(("GIT_", "PYTHON", "COV"))}
        secret = {"MODEL_ACCESS_KEY": self.key} if key else {}
        return {**kept, **secret, "PATH": self._path, "HOME": str(home), "FORGE": str(self.state), "CI": "true"}

    def sh(
        self, where: Path, script: str, more: Mapping[str, str] | None = None, *, expect: int = 0, key: bool = False
    ) -> str:
        """Run a script as GitHub and GitLab do, with bash -e."""
        done = subprocess.run(
            ["bash", "-e", "-c", script], cwd=where, env={**self.environment(key=key), **(more or {})},
            capture_output=True, text=True, timeout=180, check=False,
        )  # fmt: skip
        assert done.returncode == expect, f"{script}\n{done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def clone(self, branch: str = "main") -> Path:
        """A fresh checkout, as each CI job begins with."""
        self.runs += 1
        folder = self.folder / f"run-{self.runs}"
        self.sh(self.folder, f"git clone --quiet --branch {branch} remote.git {folder}")
        return folder

    def open_pull(self, branch: str, number: int) -> Path:
        """Open a pull request from a pushed branch, or push to it; returns the run's checkout."""
        checkout = self.clone(branch)
        head = self.sh(checkout, "git rev-parse HEAD").strip()
        self.pulls = [pull for pull in self.pulls if pull["number"] != number]
        self.pulls.append({"number": number, "head": head, "run": self.runs, "merged": "", "branch": branch})
        self._tell()
        return checkout

    def artifact(self, checkout: Path) -> None:
        """Keep what the plan job uploads."""
        number = checkout.name.removeprefix("run-")
        target = self.state / "artifacts" / number
        self.sh(checkout, f"mkdir -p {target.parent} && cp -r plan {target}")

    def merge(self, number: int) -> str:
        """Merge a pull request on the forge; returns the merge commit."""
        pull = next(pull for pull in self.pulls if pull["number"] == number)
        folder = self.clone()
        self.sh(
            folder,
            f"git merge --quiet --no-ff -m 'Merge {number}' origin/{pull['branch']} && git push --quiet origin main",
        )
        pull["merged"] = self.sh(folder, "git rev-parse HEAD").strip()
        self._tell()
        return str(pull["merged"])


def github_steps(file: str, job: str) -> dict[str, tuple[str, Mapping[str, str]]]:
    """The shell steps of a GitHub job: name to (script, env)."""
    workflow = yaml.safe_load((CI / file).read_text())
    steps = workflow["jobs"][job]["steps"]
    return {step["name"]: (step["run"], step.get("env", {})) for step in steps if "run" in step}


def gitlab_script(job: str) -> str:
    """The script of a GitLab job."""
    return "\n".join(yaml.safe_load((CI / "gitlab.yml").read_text())[job]["script"])


def run_github(
    forge: Forge, checkout: Path, file: str, job: str, names: list[str], known: Mapping[str, str], expect: int = 0
) -> str:
    """Run some steps of a job one after another, with `${{ … }}` filled in from `known`."""
    temp = forge.folder / f"temp-{checkout.name}"
    temp.mkdir(exist_ok=True)
    steps = github_steps(file, job)
    said = ""
    handed: dict[str, str] = {}
    for position, name in enumerate(names):
        script, env = steps[name]
        filled = {
            key: re.sub(r"\$\{\{\s*(.+?)\s*\}\}", lambda m: known[m[1]], str(value)) for key, value in env.items()
        }
        key = filled.pop("MODEL_ACCESS_KEY", "")
        files = {
            "GITHUB_ENV": str(temp / "env"),
            "GITHUB_STEP_SUMMARY": str(temp / "summary"),
            "RUNNER_TEMP": str(temp),
        }
        more = {**files, "GITHUB_REPOSITORY": PROJECT, **handed, **filled}
        more |= {"GITHUB_SHA": known["github.sha"]} if "github.sha" in known else {}
        said += forge.sh(checkout, script, more, key=bool(key), expect=expect if position == len(names) - 1 else 0)
        if (temp / "env").exists():
            handed = dict(line.split("=", 1) for line in (temp / "env").read_text().splitlines())
    return said


def write(root: Path, files: Mapping[str, str]) -> None:
    """Write a project's files."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
