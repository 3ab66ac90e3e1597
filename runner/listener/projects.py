"""The project on disk, and which secrets its profiles accept."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from standardwebhooks import Webhook

from runner.errors import BatchspecError, TrustError
from runner.http_server import logger
from runner.jobspec.job_spec import Project
from runner.jobspec.loader import load_project
from runner.jobspec.settings import DigitalOceanProfile
from runner.jobspec.trust import resolve_webhook_secret
from runner.listener.signature import verifier
from runner.operations.choice import Choice
from runner.operations.selection import Scope, select

RELOAD = 5.0
"""Seconds between two reads of the specs because of calls with an unknown signature."""


def load_current(root: Path, environ: Mapping[str, str]) -> Project:
    """Return the project. Raises SpecError."""
    return load_project(root, [], variables={}, provider=None, environ=environ, allow_partial=True)


def load_with_partitions(root: Path, environ: Mapping[str, str], addresses: Collection[str]) -> Project:
    """Return the project with the partitions among `addresses`. Raises SpecError."""
    project = load_current(root, environ)
    if not project.partitioned:
        return project
    choice = Choice(select=tuple(addresses), may_miss=True)
    return select(project, choice, Scope.RECORDED, environ, datetime.now(UTC)).project


@dataclass(frozen=True, slots=True)
class Secrets:
    """Each profile's verifiers, and why some secrets can't be used."""

    by_profile: Mapping[str, tuple[Webhook, ...]]
    problems: tuple[str, ...]


def secrets_of(project: Project, environ: Mapping[str, str]) -> Secrets:
    """Return the secrets of a project's jobs and profiles. Reads only variables that a spec may name as a secret."""
    wanted: dict[str, dict[str, None]] = {}
    for job in (*project.jobs, *project.unbound):
        if job.job.webhook is not None:
            wanted.setdefault(job.job.provider_name, {})[job.job.webhook.secret.env] = None
    for name, profile in project.settings.providers.items():
        if isinstance(profile, DigitalOceanProfile) and profile.webhook_secret is not None:
            wanted.setdefault(name, {})[profile.webhook_secret.env] = None
    found: dict[str, tuple[Webhook, ...]] = {}
    problems: list[str] = []
    for profile_name, variables in wanted.items():
        verifiers = []
        for variable in variables:
            try:
                verifiers.append(verifier(resolve_webhook_secret(variable, environ)))
            except TrustError as error:
                problems.append(f"{profile_name}: {error.message}")
            except ValueError as error:
                problems.append(f"{profile_name}: {variable}: {error}")
        if verifiers:
            found[profile_name] = tuple(verifiers)
    return Secrets(found, tuple(dict.fromkeys(problems)))


class CurrentSecrets:
    """The secrets of the specs on disk. Reads them again when a call fits none, but not too often."""

    def __init__(self, root: Path, environ: Mapping[str, str], project: Project) -> None:
        self._root = root
        self._environ = environ
        self._lock = threading.Lock()
        self._loaded = time.monotonic()
        self._secrets = secrets_of(project, environ)
        self.project_name = project.settings.project

    def verifiers(self, profile: str) -> tuple[Webhook, ...]:
        """Return a profile's verifiers, if it is known."""
        return self._secrets.by_profile.get(profile, ())

    def refresh(self) -> bool:
        """Read the specs again. Return False if impossible, or done a moment ago."""
        with self._lock:
            if time.monotonic() - self._loaded < RELOAD:
                return False
            self._loaded = time.monotonic()
            try:
                self._secrets = secrets_of(load_current(self._root, self._environ), self._environ)
            except (BatchspecError, OSError) as error:
                logger.warning("specs.unreadable", reason=f"{error}")
                return False
            return True
