"""A rendering that is kept is used only where everything it was made from is the same, byte for byte."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import runner.planner.cache as cache_module
import runner.planner.render as render_module
from runner.errors import InputError
from runner.jobspec.loader import Project, load_project
from runner.planner.render import Desired, render_job
from runner.planner.shards import cut
from runner.reconciler.plan.classify_job import classify_job

SPEC = """\
version: 1
name: keep
model: m
input: {path: data/rows.jsonl, id: id}
prompt: {user: {template: templates/t.j2}}
vars: {word: w}
output: {path: out/keep.jsonl}
"""
FILES = {
    "specs/hello.yaml": SPEC,
    "templates/t.j2": "{{ vars.word }} {{ text }} {% include 'x-' ~ text ~ '.j2' ignore missing %}",
    "templates/x-a.j2": "included",
    "data/rows.jsonl": "".join(f'{{"id": {n}, "text": "{"ab"[n % 2]}"}}\n' for n in range(50)),
}


class Story:
    """One project that is rendered again and again, with what is kept in one folder."""

    def __init__(self, load: Callable[..., Project], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = load(FILES).root
        self.kept = folder / "kept"
        self.rendered = 0
        self._scratch = folder / "scratch"
        render = render_module._Rendering.render

        def counted(rendering: render_module._Rendering, scratch: Path) -> Desired:
            self.rendered += 1
            return render(rendering, scratch)

        monkeypatch.setattr(render_module._Rendering, "render", counted)
        monkeypatch.setattr(cache_module, "MIN_CACHED_BYTES", 1)
        monkeypatch.setattr(render_module, "MIN_CACHED_BYTES", 1)

    def desire(self) -> Desired:
        shutil.rmtree(self._scratch, ignore_errors=True)
        [spec] = load_project(self.root, variables={}, provider="local", environ={}).jobs
        fresh = render_job(spec, self.root, self._scratch / "fresh")
        self.rendered = 0
        found = render_job(spec, self.root, self._scratch / "kept", keep_in=self.kept)
        assert found.pins == fresh.pins, "what is kept is never another thing than what is rendered"
        assert list(found.spool.ids()) == list(fresh.spool.ids())
        return found

    def write(self, name: str, text: str) -> None:
        (self.root / name).write_text(text, encoding="utf-8")


@pytest.fixture
def story(load: Callable[..., Project], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Story:
    return Story(load, tmp_path, monkeypatch)


def test_nothing_changed_renders_nothing(story: Story) -> None:
    story.desire()
    assert story.rendered == 1
    story.desire()
    assert story.rendered == 0


def test_lines_are_rendered_when_they_are_wanted_after_all(story: Story, tmp_path: Path) -> None:
    first = story.desire()
    expected = list(first.spool.lines())
    kept = story.desire()
    classify_job(kept, (), {})
    [shard] = cut(kept.spool, kept.spec.job.shards, lambda asks: asks["first"] == 1, tmp_path)
    assert story.rendered == 1
    assert shard.path is not None
    assert shard.path.read_bytes() == b"".join(dict.fromkeys(expected))
    assert list(kept.spool.lines()) == expected
    assert story.rendered == 1, "once is enough"


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        pytest.param("data/rows.jsonl", '{"id": 7,', '{"id":77,', id="a row, in as many bytes"),
        pytest.param("data/rows.jsonl", '{"id": 7,', '{"id": 777,', id="a row"),
        pytest.param("templates/t.j2", "{{ text }}", "{{ text  }}!", id="the template"),
        pytest.param("templates/x-a.j2", "included", "INCLUDED", id="a template whose name is computed"),
        pytest.param("specs/hello.yaml", "word: w", "word: v", id="a var"),
        pytest.param("specs/hello.yaml", "model: m", "model: m\nsalt: again", id="the salt"),
        pytest.param("specs/hello.yaml", "model: m", "model: m\nreplicates: 2", id="replicates"),
        pytest.param("specs/hello.yaml", "model: m", "model: m\ndedupe: false", id="dedupe"),
        pytest.param("specs/hello.yaml", ", id: id", "", id="the id column"),
        pytest.param("specs/hello.yaml", "jsonl, id", "jsonl, format: jsonl, id", id="how the input is read"),
    ],
)
def test_what_changed_is_rendered(story: Story, name: str, old: str, new: str) -> None:
    story.desire()
    text = (story.root / name).read_text()
    assert old in text
    story.write(name, text.replace(old, new))
    story.desire()
    assert story.rendered == 1
    story.write(name, text)
    story.desire()
    assert story.rendered == 1, "only the last rendering is kept"
    story.desire()
    assert story.rendered == 0


def test_a_template_that_was_looked_for_in_vain_and_is_there_now(story: Story) -> None:
    story.desire()
    story.write("templates/x-b.j2", "now there")
    story.desire()
    assert story.rendered == 1


def test_a_template_that_stands_before_the_one_that_was_found(story: Story) -> None:
    """Names are looked for in the project's root first."""
    story.desire()
    story.write("x-a.j2", "included")
    story.desire()
    assert story.rendered == 1


def test_other_code_renders_again(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    story.desire()
    monkeypatch.setattr(cache_module, "toolchain_digest", lambda: "another version")
    story.desire()
    assert story.rendered == 1


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "gone"])
@pytest.mark.parametrize("name", ["made", "rows", "ids", "by-key", "spans"])
def test_a_damaged_file_is_never_believed(story: Story, name: str, damage: str) -> None:
    story.desire()
    [path] = story.kept.glob(f"{name}*")
    data = path.read_bytes()
    # Files are linked, never written in place: another inode, as a copy or a restored backup would have.
    path.unlink()
    if damage != "gone":
        middle = len(data) // 2
        flipped = data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
        path.write_bytes({"cut": data[:-5], "flip": flipped, "empty": b""}[damage])
    story.desire()
    assert story.rendered == 1
    story.desire()
    assert story.rendered == 0, "it is kept again, whole"


def test_an_input_that_changes_in_this_moment_is_told(story: Story) -> None:
    story.desire()
    kept = story.desire()
    path = story.root / "data/rows.jsonl"
    path.write_text(path.read_text().replace('"text": "a"', '"text": "b"', 1))
    with pytest.raises(InputError, match="changed during rendering") as caught:
        next(kept.spool.lines())
    assert caught.value.codes == ("BS207",)


def test_a_small_input_leaves_nothing_behind(load: Callable[..., Project], tmp_path: Path) -> None:
    loaded = load(FILES)
    for number in range(2):
        render_job(loaded.jobs[0], loaded.root, tmp_path / str(number), keep_in=tmp_path / "kept")
    assert not (tmp_path / "kept").exists()


def test_a_folder_that_can_not_be_written_is_no_error(story: Story) -> None:
    story.kept.write_text("a file stands there")
    story.desire()
    assert story.rendered == 1
