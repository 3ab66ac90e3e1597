"""Attacks through git, links, devices and the paths that a spec names."""

from __future__ import annotations

from tests.untrusted.checkout import Piece

_SETTINGS = {"batchspec.yaml": "version: 1\nproject: hostile\n"}
_HOOK = "#!/bin/sh\ntouch $OUTSIDE/ran-monitor\n"
_BARE = {
    "HEAD": "ref: refs/heads/main\n",
    "config": "[core]\n\trepositoryformatversion = 0\n\tbare = false\n\tworktree = ../bare\n\tfsmonitor = ./hook.sh\n",
    "objects/keep": "",
    "refs/heads/keep": "",
    "hook.sh": _HOOK,
}
PIECES = [
    Piece("harmless"),
    Piece("bare-repository", folder="bare", files={**_BARE, **_SETTINGS}),
]
