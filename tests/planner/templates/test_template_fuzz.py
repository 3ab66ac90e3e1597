"""Whatever a template is named and holds, there is a text, or a problem in words. Also a target of `make fuzz`."""

from __future__ import annotations

from pathlib import Path

import jinja2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.planner.templates.environment import Templates, read_template
from runner.planner.templates.step_limit import RowError

SECRET = "not for prompts"
NAMES = st.lists(
    st.sampled_from(["..", "/", "t.j2", "templates", "inner", ".env", "out", "\0", ".", "~", "\\", " ", "T.J2", "é"])
    | st.text(max_size=3),
    max_size=6,
).map("".join)
PIECES = st.lists(
    st.sampled_from(
        ["{{", "}}", "{%", "%}", "{#", "#}", "-%}", " text ", " row ", " vars.x ", "|upper", "|tojson", "|join(',')", " for i in ",
         "range(9)", " endfor ", " if ", " endif ", " include 't.j2' ", " import 't.j2' as t ", " macro m() ", " endmacro ",
         " set x = ", "[1, 2]", "{'a': 1}", "**9", "* 3", "~ 'a'", ".__class__", "['a']", "()", "\n", "'", '"', "é", "loop.index"]
    )
    | st.text(max_size=3),
    max_size=12,
).map("".join)  # fmt: skip
QUICK = settings(deadline=None, database=None)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with one template; a hidden file and a file outside hold a secret."""
    folder = tmp_path_factory.mktemp("fuzz")
    root = folder / "project"
    (root / "templates/inner").mkdir(parents=True)
    (root / ".env").write_text(SECRET)
    (folder / "t.j2").write_text(SECRET)
    (root / "out").symlink_to(folder)
    return root


@QUICK
@given(name=NAMES, data=st.binary(max_size=40) | st.just(b"{{ text }}"))
def test_any_name_and_any_bytes(root: Path, name: str, data: bytes) -> None:
    (root / "templates/t.j2").write_bytes(data)
    (root / "templates/inner/t.j2").write_bytes(data)
    loaded = read_template(root, name, check_git=False)
    assert bool(loaded.problem) != bool(loaded.path)
    assert SECRET not in loaded.text
    if not loaded.problem:
        assert loaded.text == data.decode("utf-8-sig")


@QUICK
@given(text=PIECES, included=PIECES)
def test_any_template(root: Path, text: str, included: str) -> None:
    (root / "templates/t.j2").write_text(included, "utf-8", "replace")
    templates = Templates(root, {"x": 1}, loaded={})
    try:
        made = templates.compile_text(text, "prompt")(templates.namespace({"text": "one"}))
    except (jinja2.TemplateError, RowError) as error:
        assert str(error)  # noqa: PT017  most are no templates
    else:
        assert isinstance(made, str)
