"""What was rendered last time, kept so that a job with nothing changed is not rendered again.

Kept are the spool's fixed records and ids, not the lines: where lines are wanted after all they are rendered again,
and must come out with the same keys. What is kept is used only where everything it was made from is the same now, each
by its digest: the frame of the request, every template that was read or looked for in vain, the bytes of the input, the
code and the libraries that render; and where its own files have the digests that were noted. In every doubt the answer
is that there is nothing, and the job is rendered. docs/decisions/0005-render-cache.md argues this.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from runner.base.digest import digest_json, sha256_file, sha256_hex
from runner.planner.requests.layout import RequestLayout
from runner.planner.requests.refusal_rules import Finding
from runner.planner.spool.pins import Pins
from runner.planner.spool.spool import Spool
from runner.planner.templates.environment import MOST_NAMES, Loaded, read_template

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


WORTH_BYTES = 8 << 20
"""An input of fewer bytes is rendered anew each time: that is quick, and leaves nothing behind."""
_FORMAT = 2
_NAME = "made.json"
_FILES = ("rows", "ids", "spans", "by-key")
_MADE_BY = ("batchspec", "jinja2", "markupsafe", "orjson", "numpy", "genai-prices")


@dataclass(frozen=True, slots=True)
class CacheManifest:
    """What a kept rendering was made from, and what it is. `files` are digests of the spool's files by name.

    `templates` maps each name that was asked for to the path, digest and problem it was found with.
    """

    format: int
    made_by: str
    frame: str
    templates: dict[str, list[str]]
    input_size: int
    input_digest: str
    rows: int
    requests: str
    files: dict[str, str]
    findings: list[dict[str, Any]]

    def found(self) -> tuple[Finding, ...]:
        """Return what a service would refuse of these rows."""
        return tuple(Finding(**{**one, "rows": tuple(map(tuple, one["rows"]))}) for one in self.findings)


class RenderCache:
    """The kept rendering of one job, in a folder of its own; there may be none.

    `settings` are what else the spool depends on, beside frame, templates and input: values that JSON has.
    """

    def __init__(self, folder: Path, root: Path, frame: RequestLayout, settings: object) -> None:
        self._folder = folder
        self._root = root
        self._frame = _frame_digest(frame, settings)
        self._made = _read(folder / _NAME)

    def may_hold(self, input_size: int) -> bool:
        """Whether it is worth hashing the input to find out; templates that were read last time are read now."""
        made = self._made
        return (
            made is not None
            and (made.made_by, made.frame, made.input_size) == (made_by(), self._frame, input_size)
            and all(_template_state(read_template(self._root, name)) == found for name, found in made.templates.items())
        )

    def recall(self, input_digest: str, scratch: Path) -> CacheManifest | None:
        """Put the kept files into `scratch` where they are those that an input with this digest gave; else None."""
        made = self._made
        if made is None or made.input_digest != input_digest or sorted(made.files) != sorted(_FILES):
            return None
        scratch.mkdir(parents=True, exist_ok=True)
        try:
            for name, digest in made.files.items():
                _link(self._folder / _named(name, digest), scratch / name)
                if sha256_file(scratch / name) != digest:
                    return None
        except OSError:
            return None
        return made

    def keep(
        self,
        spool: Spool,
        loaded: Mapping[str, Loaded],
        input_size: int,
        pins: Pins,
        findings: Sequence[Finding] = (),
    ) -> None:
        """Keep what was rendered in place of what was kept. A disk that refuses leaves nothing, or what there was."""
        if input_size < WORTH_BYTES or len(loaded) >= MOST_NAMES:
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            spool.sort()
            digests = {name: sha256_file(spool.folder / name) for name in _FILES}
            for name, digest in digests.items():
                _link(spool.folder / name, self._folder / _named(name, digest))
            templates = {name: _template_state(loaded[name]) for name in sorted(loaded)}
            made = CacheManifest(
                _FORMAT,
                made_by(),
                self._frame,
                templates,
                input_size,
                pins.input_digest,
                pins.rows,
                pins.requests,
                digests,
                [asdict(one) for one in findings],
            )
            beside = self._folder / f"{_NAME}.{os.getpid()}"
            beside.write_bytes(_sealed(made))
            beside.replace(self._folder / _NAME)
            wanted = {_NAME, *(_named(name, digest) for name, digest in digests.items())}
            for path in self._folder.iterdir():
                if path.name not in wanted:
                    path.unlink(missing_ok=True)
        except OSError:
            return


@cache
def made_by() -> str:
    """The code and the libraries that a rendering comes from."""
    versions = {name: _version(name) for name in _MADE_BY} | {"python": platform.python_version()}
    here = Path(__file__).parent
    paths = [*sorted(here.rglob("*.py")), here.parent / "base/keys.py", here.parent / "base/digest.py"]
    code = hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()
    return digest_json([versions, code])


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _frame_digest(frame: RequestLayout, settings: object) -> str:
    # Bytes are written as Latin-1, which loses nothing and JSON can hold.
    return sha256_hex(orjson.dumps([asdict(frame), settings], default=lambda value: value.decode("latin-1")))


def _template_state(one: Loaded) -> list[str]:
    return [one.path, one.digest, one.problem]


def _read(path: Path) -> CacheManifest | None:
    try:
        text, seal = path.read_bytes().splitlines()
        if sha256_hex(text) != seal.decode():
            return None
        fields = orjson.loads(text)
        return CacheManifest(**fields) if fields["format"] == _FORMAT else None
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _sealed(made: CacheManifest) -> bytes:
    text = orjson.dumps(asdict(made))
    return text + b"\n" + sha256_hex(text).encode() + b"\n"


def _named(name: str, digest: str) -> str:
    return f"{name}-{digest[:32]}"


def _link(source: Path, target: Path) -> None:
    target.unlink(missing_ok=True)  # it may be damaged, whatever its name says
    try:
        target.hardlink_to(source)
    except FileNotFoundError:
        raise
    except OSError:  # the file system has no links
        shutil.copyfile(source, target)
