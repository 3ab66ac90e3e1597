"""Every block of commands in README.md and docs/ is run by a test; this module runs those that no other one does."""

from __future__ import annotations

import os
import pty
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.docs.test_pages import PAGES, RUN, Block, blocks, check, name, steps
from tests.service.certificates import Certificate
from tests.service.upstream import serve_upstream

README = REPOSITORY / "README.md"
KEY = "key-of-the-team"
SHELL = {"sh", "console", "bash", "shell", "zsh"}

ERRORS = "tests/docs/test_errors.py::test_a_pages_example_gives_its_code"
STEPS = "tests/docs/test_pages.py::test_what_a_page_says_happens"
ROUND = "tests/service/test_docs.py::test_the_round_with_curl_and_the_page"
HERE = "tests/docs/test_commands.py"

CLAIMS = {
    "README.md": {
        "make demo    # plans and applies specs/ with a small real language model on this machine": f"{HERE}::test_the_targets_of_the_readme",
        "$ batchspec plan --provider local specs/review-sentiment.yaml": f"{HERE}::test_the_plan_of_the_readme",
        "$ batchspec init": f"{HERE}::test_the_start_of_the_readme",
    },
    "docs/tutorial.md": {"export MODEL_ACCESS_KEY=...": f"{HERE}::test_the_tutorial_for_real_and_on_its_schedule"},
    "docs/how-to/listen.md": {
        'export BATCHSPEC_WEBHOOK_SECRET="whsec_$(openssl rand -base64 32)"': "tests/listener/test_command.py::test_the_commands_of_the_page"
    },
    "docs/how-to/self-hosted.md": {
        'batchspec serve --backend openai --base-url http://127.0.0.1:11434/v1 --port 8080 --token "$TOKEN" --concurrency 4': f"{HERE}::test_models_of_your_own",
        'export BATCHSPEC_TRUST_HOSTS=models.example.com MODEL_ACCESS_KEY="$TOKEN"': f"{HERE}::test_models_of_your_own",
    },
    "docs/service.md": {
        "batchspec serve --data service --port 8899 > url.txt &": ROUND,
        "cat > requests.jsonl <<'EOF'": ROUND,
        'curl -s "$BATCH_URL/" | grep -q "$JOB"': ROUND,
        'batchspec serve --data queue --backend openai --base-url "$UPSTREAM" --concurrency 32 --rate-limit off > queue.txt &': "tests/service/test_docs.py::test_the_same_round_in_front_of_another_server",
        "batchspec serve --data closed --host 0.0.0.0": "tests/service/test_docs.py::test_what_is_said_to_be_refused_is",
        "$ batchspec serve --fault lost-create --fault missing-lines=20%:5% --seed 7": f"{HERE}::test_services_start_as_the_pages_start_them",
        "$ batchspec serve --webhook-allow loopback                       # a receiver on this machine": f"{HERE}::test_services_start_as_the_pages_start_them",
        "$ export BATCHSPEC_SERVE_TOKEN=$(openssl rand -hex 32)": f"{HERE}::test_services_start_as_the_pages_start_them",
    },
    "docs/service-faults.md": {
        "$ batchspec serve --fault lost-create --fault fail-requests=5%:rate_limit_exceeded --seed 7": f"{HERE}::test_services_start_as_the_pages_start_them",
        "$ batchspec serve --list-faults": f"{HERE}::test_the_list_of_faults",
    },
}
"""Pages, the first line of each block of commands in them, and the test that runs it.

What stands here not at all is run as a whole: the errors' pages, and console blocks of the tutorial and the how-to pages.
"""


def claimed_by(page: Path, block: Block) -> str | None:
    if page.parent.name == "errors":
        return ERRORS
    if page in RUN and block.kind == "console":
        return STEPS
    return CLAIMS.get(name(page), {}).get(block.text.partition("\n")[0])


@pytest.mark.parametrize("page", [README, *PAGES], ids=name)
def test_every_block_of_commands_is_run_by_a_test(page: Path) -> None:
    """A new block is added to the claims with the test that runs it. None hides in indented text or another fence."""
    text = page.read_text(encoding="utf-8")
    found = [block for block in blocks(page) if block.kind in SHELL]
    assert len(found) == len(re.findall(rf"^ *(?:```|~~~)(?:{'|'.join(SHELL)})\b", text, re.MULTILINE))
    for block in found:
        assert claimed_by(page, block), f"{name(page)}: no test is said to run the block\n{block.text}"
    others = [block for block in blocks(page) if block.kind not in SHELL]
    outside = re.sub(r"^( *)```.*?^\1```$", "", text, flags=re.MULTILINE | re.DOTALL)
    for part in (outside, *(block.text for block in others)):
        hidden = re.search(r"^ *(?:\$ |batchspec |make |pip install |git clone ).*", part, re.MULTILINE)
        if hidden and (part is not outside or hidden[0].startswith(("    ", "$"))):
            pytest.fail(f"{name(page)}: this looks like a command outside of a block of commands: {hidden[0]}")


def test_what_is_claimed_is_there() -> None:
    """The pages have these blocks, and the modules these tests."""
    for page, claims in CLAIMS.items():
        firsts = [block.text.partition("\n")[0] for block in blocks(REPOSITORY / page)]
        assert set(claims) <= set(firsts), page
    for test in {ERRORS, STEPS, *(test for claims in CLAIMS.values() for test in claims.values())}:
        module, _, function = test.partition("::")
        assert f"def {function}(" in (REPOSITORY / module).read_text(encoding="utf-8"), test


def block_of(page: str, start: str) -> Block:
    [found] = [block for block in blocks(REPOSITORY / page) if block.text.startswith(start)]
    return found


def shell(script: str, root: Path, environment: Mapping[str, str] | None = None, *, expect: int = 0) -> str:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script], cwd=root, env={**os.environ, **(environment or {})}, text=True,
        timeout=120, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == expect, f"{script}\n{done.stdout}"
    return done.stdout


def typed(script: str, root: Path, keys: str, environment: Mapping[str, str]) -> str:
    """Run a script in a terminal where somebody types; returns what the terminal showed. A failure is an error."""
    ours, its = pty.openpty()
    shown: list[bytes] = []

    def read() -> None:
        try:
            while piece := os.read(ours, 1 << 16):
                shown.append(piece)
        except OSError:
            return  # how Linux says that nobody has the terminal open any more

    os.write(ours, keys.encode())
    with subprocess.Popen(
        ["bash", "-euo", "pipefail", "-c", script], cwd=root, env={**os.environ, **environment},
        stdin=its, stdout=its, stderr=its, start_new_session=True,
    ) as process:  # fmt: skip
        os.close(its)
        reader = threading.Thread(target=read)
        reader.start()
        code = process.wait(timeout=120)
        reader.join()
    os.close(ours)
    text = b"".join(shown).decode()
    assert code == 0, text
    return text


@contextmanager
def served(command: str, root: Path, environment: Mapping[str, str] | None = None) -> Iterator[str]:
    """A service that a line of a shell starts, on a free port of this machine; its URL."""
    command = re.sub(r"--port \d+", "--port 0", command).replace("--host 0.0.0.0", "--host 127.0.0.1")
    before, _, last = command.rpartition("\n")
    with subprocess.Popen(
        ["bash", "-euo", "pipefail", "-c", f"{before}\nexec {last}"], cwd=root,
        env={**os.environ, **(environment or {})}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            url = process.stdout.readline().strip()
            assert url.startswith("http"), process.stderr.read()
            yield url
        finally:
            process.terminate()
            process.communicate(timeout=30)


def put(root: Path, block: Block) -> None:
    target = root / block.title
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(block.text, encoding="utf-8")


def test_the_targets_of_the_readme() -> None:
    """That make knows them, and what it would do for them; the model itself is asked by tests/service/test_smollm.py."""
    commands = [line.partition("#")[0].strip() for line in block_of("README.md", "make demo").text.splitlines()]
    for command, part in zip(commands, ["apply --yes --provider local", "-m pytest"], strict=True):
        assert part in shell(f"{command} --dry-run", REPOSITORY)


@pytest.mark.usefixtures("tools")
def test_the_plan_of_the_readme(tmp_path: Path) -> None:
    """The examples of the repository, answered by the echo instead of the model: other answers, so another cost."""
    root = tmp_path / "examples"
    for folder in ("specs", "templates", "data"):
        shutil.copytree(REPOSITORY / folder, root / folder, ignore=shutil.ignore_patterns("*.lock"))
    settings = (REPOSITORY / "batchspec.yaml").read_text()
    assert "backend: smollm" in settings
    (root / "batchspec.yaml").write_text(settings.replace("backend: smollm", "backend: echo"))
    spec = next(block for block in blocks(README) if block.kind == "yaml").text
    assert (root / "specs/review-sentiment.yaml").read_text().endswith(spec), "README shows the spec as it is"
    shell("git init -q && git add -A && git commit -qm Start", root)
    shell("batchspec apply --provider local --yes specs/review-sentiment.yaml", root)
    rows = root / "data/reviews.jsonl"
    edited = rows.read_text().replace("Best kettle I have owned.", "The best I have owned.")
    assert edited != rows.read_text()
    rows.write_text(edited)
    shell("git commit -qam Edited", root)
    [(command, shown)] = steps(block_of("README.md", "$ batchspec plan"))
    told = shell(command, root)
    shown = [line.replace("local:smollm", "local:echo") for line in shown]
    shown = [
        re.sub(r"\$[\d.]+\d|\d+(?= (?:bytes|tokens,))|(?<=about )\d+(?=,)|(?<=prices )[\d.]+", "…", line)
        for line in shown
    ]
    # The echo fills all 16 tokens, so that there is no less than the most.
    check(command, [line.replace("about …, at most", "at most") for line in shown], told)


@pytest.mark.usefixtures("tools")
def test_the_start_of_the_readme(tmp_path: Path) -> None:
    root = tmp_path / "project"
    root.mkdir()
    for command, shown in steps(block_of("README.md", "$ batchspec init")):
        check(command, shown, shell(command, root))


@pytest.mark.usefixtures("tools")
def test_the_tutorial_for_real_and_on_its_schedule(tmp_path: Path) -> None:
    """With the embedded service in the vendor's place: as typed, and then as cron does it."""
    root = tmp_path / "reviews"
    page = REPOSITORY / "docs/tutorial.md"
    for block in blocks(page):
        if block.title:
            put(root, block)
    script = block_of("docs/tutorial.md", "export MODEL_ACCESS_KEY").text.replace("=...", f"={KEY}")
    [entry] = [block.text for block in blocks(page) if block.kind == "crontab"]
    scheduled = entry.split(None, 5)[5].replace("/srv/reviews", str(root))
    with served(f"batchspec serve --data service --token {KEY}", tmp_path) as url:
        with (root / "batchspec.yaml").open("a") as settings:
            settings.write(f'providers: {{digitalocean: {{kind: digitalocean, base_url: "{url}"}}}}\n')
        shell("\n".join(step for step, _ in steps(block_of("docs/tutorial.md", "$ git init"))), root)
        told = typed(script, root, "y\n", {"TERM": "xterm", "GIT_PAGER": "cat"})
        assert "Apply these changes?" in told
        assert shell("git show --name-only --format=%s", root).split("\n\n") == [
            "Answers of batch jobs", "out/reviews.jsonl\nspecs/reviews.lock\n",
        ]  # fmt: skip
        told = shell(f"sh -c '{scheduled}'", root, {"MODEL_ACCESS_KEY": KEY})
        assert "Nothing to do: 3 reused." in told


@pytest.mark.slow
@pytest.mark.usefixtures("tools")
def test_models_of_your_own(tmp_path: Path) -> None:
    """A server of chat completions stands for Ollama, and this machine for the host of the models."""
    root = tmp_path / "project"
    page = "docs/how-to/self-hosted.md"
    put(root, block_of(page, "version: 1\nproject: own-models\nproviders:\n  own: {kind: digitalocean"))
    for title in ("specs/job.yaml", "data/rows.jsonl"):
        put(root, next(block for block in blocks(REPOSITORY / page) if block.title == title))
    token = {"TOKEN": KEY}
    script = block_of(page, "export BATCHSPEC_TRUST_HOSTS").text
    told = shell(script.replace("BATCHSPEC_TRUST_HOSTS=models.example.com ", ""), root, token, expect=1)
    assert "set BATCHSPEC_TRUST_HOSTS=models.example.com" in told
    with serve_upstream() as upstream:
        serve = block_of(page, "batchspec serve").text.strip().replace("http://127.0.0.1:11434", upstream.url)
        with served(serve, tmp_path, token) as url:
            settings = root / "batchspec.yaml"
            settings.write_text(settings.read_text().replace("https://models.example.com", url))
            shell(script.replace("models.example.com", "127.0.0.1"), root, token)
    assert '"text":"re: Say one."' in (root / "out/job.jsonl").read_text()
    assert upstream.asked == {"Say one.": 1}


@pytest.mark.usefixtures("tools")
def test_services_start_as_the_pages_start_them(tmp_path: Path) -> None:
    """On a port and an address of this machine; the page of tokens with a certificate of the test's own."""
    certificate = Certificate(tmp_path)
    assert certificate.cert.name == "cert.pem"
    started = 0
    for page, start in (
        ("docs/service.md", "$ batchspec serve --fault"),
        ("docs/service.md", "$ batchspec serve --webhook-allow"),
        ("docs/service-faults.md", "$ batchspec serve --fault"),
    ):
        for number, (command, _) in enumerate(steps(block_of(page, start))):
            if command.startswith("batchspec serve"):
                with served(
                    f"{command.partition('#')[0].strip()} --data {page[5:-3]}-{started}-{number} --port 0", tmp_path
                ):
                    started += 1
    script = "\n".join(command for command, _ in steps(block_of("docs/service.md", "$ export BATCHSPEC_SERVE_TOKEN")))
    with served(f"{script} --data tokens", tmp_path) as url:
        code = "curl -s -o out.txt -w '%{http_code}' --cacert ca.pem"
        assert shell(f"{code} {url}/v1/batches", tmp_path) == "401"
        started += 1
    assert started == 6


@pytest.mark.slow
@pytest.mark.usefixtures("tools")
def test_a_local_providers_faults(tmp_path: Path) -> None:
    """Of a lost create and jobs that expire half done the answers all come, each once."""
    root = tmp_path / "project"
    root.mkdir()
    [command] = [
        step for step, _ in steps(block_of("docs/service-faults.md", "$ batchspec serve --fault")) if "apply" in step
    ]
    shell("batchspec init", root)
    shell(command, root)
    assert len((root / ".batchspec/realms/local/out/hello.jsonl").read_text().splitlines()) == 3


@pytest.mark.usefixtures("tools")
def test_the_list_of_faults(tmp_path: Path) -> None:
    [(command, shown)] = steps(block_of("docs/service-faults.md", "$ batchspec serve --list-faults"))
    told = shell(command, tmp_path)
    assert told.rstrip("\n").splitlines() == shown
