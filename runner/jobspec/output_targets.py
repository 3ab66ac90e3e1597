"""Forbidden output paths: files that programs run or read as settings, and files that people wrote.

The rules apply to the written path and its resolved target, ignoring case.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from runner.base.repository_paths import resolved
from runner.errors import TrustError
from runner.jobspec.discovery import SETTINGS_FILES

_FOLDERS = frozenset({"specs", "templates"})
_NAMES = """
build brewfile cmakelists.txt codeowners composer.json conftest.py containerfile deno.json dockerfile gemfile
gnumakefile go.mod go.sum jenkinsfile justfile makefile manifest.in meson.build package.json package-lock.json
podfile procfile rakefile requirements.txt snakefile tiltfile tsconfig.json vagrantfile workspace
"""
"""Files that a build, a package manager or a CI service reads, in lower case."""
_ENDINGS = """
bash bat c cc cfg cjs clj cmd com conf cpp cs csh dll dylib ex exe exs fish go gradle groovy h hcl hpp htm html ini
ipynb j2 jar java jinja jinja2 jl js jsx kt ksh lock lua mjs mk ml nix php pl plist pm properties ps1 psm1 pth py pyc
pyd pyi pyw r rb reg rs scala service sh so sql svg swift tcl tf tfvars toml ts tsx vb vbs wasm xml xsl yaml yml zsh
"""
"""Endings of code, of settings and of pages that a browser opens, in lower case."""
_FORBIDDEN_NAMES = frozenset(_NAMES.split())
_FORBIDDEN_ENDINGS = frozenset(_ENDINGS.split())


def forbidden(root: Path, store: str, path: str) -> str:
    """Return why an output may not be at this path, if so. Raises TrustError."""
    name = PurePosixPath(path).name
    really = resolved(root, PurePosixPath(path).parent.as_posix()).relative_to(root.resolve()) / name
    try:
        kept = resolved(root, store).relative_to(root.resolve())
    except TrustError:  # another problem's matter
        kept = Path(store)
    reasons = (_wrong(place, base) for place, base in ((path, store), (really, kept)))
    reason = next(filter(None, reasons), "")
    leads = "" if PurePosixPath(path) == PurePosixPath(really) else f", where {path} leads"
    return f"{reason}{leads}" if reason and not _wrong(path, store) else reason


def _wrong(path: str | PurePosixPath | Path, store: str | Path) -> str:
    output = PurePosixPath(path)
    if not output.parts or output.parts[0] == "..":
        return ""
    parts = [part.casefold() for part in output.parts]
    hidden = next((part for part in output.parts if part.startswith(".")), "")
    first, own = output.parts[0], [part.casefold() for part in PurePosixPath(store).parts]
    where = f"below {first}/" if len(parts) > 1 else f"to {first}"
    if hidden == first or parts[0] in {*_FOLDERS, *own[:1], *SETTINGS_FILES}:
        return f"an output can't be written {where}"
    if hidden:
        return f"an output can't be written to {output}, which is hidden"
    stem, _, ending = parts[-1].rpartition(".")
    if parts[-1] in _FORBIDDEN_NAMES or (stem and ending in _FORBIDDEN_ENDINGS):
        return f"an output can't be written to {output}: a file of this name is code or settings"
    return ""


def same_place(root: Path, path: str, other: str) -> bool:
    """Return whether two paths lead to one file, ignoring case. Raises TrustError."""
    return str(resolved(root, path)).casefold() == str(resolved(root, other)).casefold()
