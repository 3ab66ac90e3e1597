"""Attacks through git, links, devices and the paths that a spec names."""

from __future__ import annotations

from typing import Any

from tests.untrusted.checkout import SECRET, Piece

_SETTINGS = {"batchspec.yaml": "version: 1\nproject: hostile\n"}
_HOOK = "#!/bin/sh\ntouch $OUTSIDE/ran-monitor\n"
_BARE = {
    "HEAD": "ref: refs/heads/main\n",
    "config": "[core]\n\trepositoryformatversion = 0\n\tbare = false\n\tworktree = ../bare\n\tfsmonitor = ./hook.sh\n",
    "objects/keep": "",
    "refs/heads/keep": "",
    "hook.sh": _HOOK,
}


def _input(name: str, text: str, **rest: Any) -> Piece:
    return Piece(name, input=text, **rest)


def _template(name: str, text: str, **rest: Any) -> Piece:
    return Piece(name, user=f"{{template: {text}}}", **rest)


PIECES = [
    Piece("harmless"),
    Piece("bare-repository", folder="bare", files={**_BARE, **_SETTINGS}),
    Piece("ignore", files={".env": f"KEY={SECRET}\n", ".gitignore": ".env\nprivate.txt\n"}, spec=None),
    Piece("private", files={"private.txt": SECRET, "sub/.hidden.jsonl": f'{{"id": 1, "text": "{SECRET}"}}'}, spec=None),
    _input("text-of-env", "{text: .env}"),
    _input("rows-hidden", "{path: sub/.hidden.jsonl, id: id}"),
    _input("rows-hidden-by-glob", "{path: 'sub/.*', id: id}"),
    _input("text-by-link", "{text: data/link.txt}", links={"data/link.txt": "../.env"}),
    _input("text-outside", "{text: data/out.txt}", links={"data/out.txt": "$OUTSIDE/secret.txt"}),
    _input("text-of-folder-outside", "{text: away/secret.txt}", links={"away": "$OUTSIDE"}),
    _input("rows-without-end", "{path: data/zero.jsonl, id: id}", links={"data/zero.jsonl": "/dev/zero"}),
    _input("rows-of-process", "{text: data/environ.txt}", links={"data/environ.txt": "/proc/self/environ"}),
    _input("rows-pipe", "{path: data/pipe.jsonl, id: id}", pipes=("data/pipe.jsonl",)),
    _template("template-env", "env.j2", files={"templates/env.j2": "{% include '.env' %}"}),
    _template("template-private", "private.j2", files={"templates/private.j2": "{% include 'private.txt' %}"}),
    _template("template-import", "import.j2", files={"templates/import.j2": "{% import '.git/config' as x %}{{ x }}"}),
    _template("template-extends", "extends.j2", files={"templates/extends.j2": "{% extends '.env' %}"}),
    _template(
        "template-dynamic", "dynamic.j2", files={"templates/dynamic.j2": "{% include ['.env', 'private.txt'][id] %}"}
    ),
    _template("template-link", "link.j2", links={"templates/link.j2": "../.env"}),
    _template("template-outside", "outside.j2", links={"templates/outside.j2": "$OUTSIDE/secret.txt"}),
    _template("template-without-end", "zero.j2", links={"templates/zero.j2": "/dev/zero"}),
    _template("template-pipe", "pipe.j2", pipes=("templates/pipe.j2",)),
    Piece("spec-without-end", links={"specs/spec-without-end.yaml": "/dev/zero"}, spec=None),
    Piece("spec-pipe", pipes=("specs/spec-pipe.yaml",), spec=None),
    Piece("spec-outside", links={"specs/spec-outside.yaml": "$OUTSIDE/secret.txt"}, spec=None),
    Piece("lock-outside", links={"specs/lock-outside.lock": "$OUTSIDE/secret.txt"}),
    Piece("lock-without-end", links={"specs/lock-without-end.lock": "/dev/zero"}),
    Piece("lock-pipe", pipes=("specs/lock-pipe.lock",)),
    Piece(
        "output-of-ci",
        links={"results": ".github/workflows"},
        output="{path: results/x.yml, format: jsonl}",
        files={".github/workflows/x.yml": "on: push\n"},
    ),
    Piece("output-makefile", output="{path: Makefile, format: jsonl}", files={"Makefile": "all:\n"}),
    Piece("output-outside", links={"gone": "$OUTSIDE"}, output="{path: gone/x.jsonl}"),
    Piece("output-of-a-person", output="{path: notes.csv}", files={"notes.csv": "mine\n"}),
    Piece(
        "store-in-sources",
        folder="store-src",
        files={
            "batchspec.yaml": "version: 1\nproject: hostile\nstore: src\n",
            "src/scratch/old/work.py": "print()\n",
            "src/scratch/old/in-use": "",
            "src/main.py": "print()\n",
        },
    ),
    Piece(
        "store-forged",
        folder="store-forged",
        files={
            "batchspec.yaml": "version: 1\nproject: hostile\nstore: src\n",
            "src/this-is-a-batchspec-store": "",
            "src/scratch/old/in-use": "",
            "src/main.py": "print()\n",
        },
    ),
]
