"""Cache of a job's last rendering, without its lines.

Used only if all is unchanged: request layout, templates (found or missing), input bytes, code, libraries, and the
cached files. See docs/decisions/0005-render-cache.md.
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
from runner.planner.templates.environment import MAX_TEMPLATE_NAMES, LoadedTemplate, read_template

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


MIN_CACHED_BYTES = 8 << 20
"""Smaller inputs are not cached: rendering them is quick."""
_FORMAT = 2
_NAME = "made.json"
_FILES = ("rows", "ids", "spans", "by-key")
_LIBRARIES = ("batchspec", "jinja2", "markupsafe", "orjson", "numpy", "genai-prices")


@dataclass(frozen=True, slots=True)
class CacheManifest:
    """What a cached rendering was made from.

    `files` maps the spool's files to digests, `templates` names to path, digest and problem.
    """

    format: int
    toolchain: str
    layout: str
    templates: dict[str, list[str]]
    input_size: int
    input_digest: str
    rows: int
    requests: str
    files: dict[str, str]
    findings: list[dict[str, Any]]

    def restore_findings(self) -> tuple[Finding, ...]:
        """Return the findings."""
        return tuple(Finding(**{**finding, "rows": tuple(map(tuple, finding["rows"]))}) for finding in self.findings)


class RenderCache:
    """One job's cached rendering, if any.

    `settings`: what else the spool depends on, as JSON data.
    """

    def __init__(self, folder: Path, root: Path, layout: RequestLayout, settings: object) -> None:
        self._folder = folder
        self._root = root
        self._layout = _layout_digest(layout, settings)
        self._manifest = _read(folder / _NAME)

    def maybe_fresh(self, input_size: int) -> bool:
        """Return whether all but the input's digest matches."""
        manifest = self._manifest
        return (
            manifest is not None
            and (manifest.toolchain, manifest.layout, manifest.input_size)
            == (toolchain_digest(), self._layout, input_size)
            and all(
                _template_state(read_template(self._root, name)) == state for name, state in manifest.templates.items()
            )
        )

    def load(self, input_digest: str, scratch: Path) -> CacheManifest | None:
        """Link the cached files into `scratch`. Return None if the input differs or a file is damaged."""
        manifest = self._manifest
        if manifest is None or manifest.input_digest != input_digest or sorted(manifest.files) != sorted(_FILES):
            return None
        scratch.mkdir(parents=True, exist_ok=True)
        try:
            for name, digest in manifest.files.items():
                _link(self._folder / _file_name(name, digest), scratch / name)
                if sha256_file(scratch / name) != digest:
                    return None
        except OSError:
            return None
        return manifest

    def store(
        self,
        spool: Spool,
        loaded: Mapping[str, LoadedTemplate],
        input_size: int,
        pins: Pins,
        findings: Sequence[Finding] = (),
    ) -> None:
        """Replace the cached rendering. If the disk refuses, the old one or none remains.

        The manifest comes last: a crash before that leaves the old rendering valid.
        """
        if input_size < MIN_CACHED_BYTES or len(loaded) >= MAX_TEMPLATE_NAMES:
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            spool.sort()
            digests = {name: sha256_file(spool.folder / name) for name in _FILES}
            for name, digest in digests.items():
                _link(spool.folder / name, self._folder / _file_name(name, digest))
            templates = {name: _template_state(loaded[name]) for name in sorted(loaded)}
            manifest = CacheManifest(
                _FORMAT,
                toolchain_digest(),
                self._layout,
                templates,
                input_size,
                pins.input_digest,
                pins.rows,
                pins.requests,
                digests,
                [asdict(finding) for finding in findings],
            )
            temporary = self._folder / f"{_NAME}.{os.getpid()}"
            temporary.write_bytes(_serialize(manifest))
            temporary.replace(self._folder / _NAME)
            current_files = {_NAME, *(_file_name(name, digest) for name, digest in digests.items())}
            for path in self._folder.iterdir():
                if path.name not in current_files:
                    path.unlink(missing_ok=True)
        except OSError:
            return


@cache
def toolchain_digest() -> str:
    """Return a digest of the code and libraries that render."""
    versions = {name: _version(name) for name in _LIBRARIES} | {"python": platform.python_version()}
    package = Path(__file__).parent
    paths = [*sorted(package.rglob("*.py")), package.parent / "base/keys.py", package.parent / "base/digest.py"]
    code = hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()
    return digest_json([versions, code])


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _layout_digest(layout: RequestLayout, settings: object) -> str:
    # JSON can't contain bytes; Latin-1 maps them one to one.
    return sha256_hex(orjson.dumps([asdict(layout), settings], default=lambda value: value.decode("latin-1")))


def _template_state(template: LoadedTemplate) -> list[str]:
    return [template.path, template.digest, template.problem]


def _read(path: Path) -> CacheManifest | None:
    try:
        text, checksum = path.read_bytes().splitlines()
        if sha256_hex(text) != checksum.decode():
            return None
        fields = orjson.loads(text)
        return CacheManifest(**fields) if fields["format"] == _FORMAT else None
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _serialize(manifest: CacheManifest) -> bytes:
    text = orjson.dumps(asdict(manifest))
    return text + b"\n" + sha256_hex(text).encode() + b"\n"


def _file_name(name: str, digest: str) -> str:
    return f"{name}-{digest[:32]}"


def _link(source: Path, target: Path) -> None:
    target.unlink(missing_ok=True)  # it may be damaged
    try:
        target.hardlink_to(source)
    except FileNotFoundError:
        raise
    except OSError:  # the file system does not support links
        shutil.copyfile(source, target)
