"""Received events on disk: one file each, in `waiting` until its job was continued, then in `done`."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from runner.base.digest import sha256_hex
from runner.state.atomic import atomic_write, private_folder, sync_folder

KEPT = 7 * 86_400.0
"""Seconds that a done event is kept, to recognise replays. Senders retry for up to three days."""
ENDS = frozenset({"batch.completed", "batch.failed", "batch.expired", "batch.cancelled"})


@dataclass(frozen=True, slots=True)
class Event:
    """The end of a batch. `job` is the address in its metadata, empty without one of this project."""

    name: str
    profile: str
    batch: str
    kind: str
    job: str
    received: float


def event_of(profile: str, webhook_id: str, body: bytes, project: str, now: float) -> Event | None:
    """Return a call's event; None if no batch ended."""
    try:
        content = orjson.loads(body)
    except ValueError:
        return None
    content = content if isinstance(content, dict) else {}
    kind, data = content.get("type", ""), content.get("data", content)
    data = data if isinstance(data, dict) else {}
    batch = data.get("id") or data.get("batch_id")
    # The vendor's guide documents no body. A call without a type may be about an end.
    if not isinstance(batch, str) or not 0 < len(batch) <= 512 or (kind != "" and kind not in ENDS):
        return None
    name = sha256_hex(f"{profile}\n{webhook_id}".encode())[:40]
    return Event(name, profile, batch, kind, _job(data.get("metadata"), project), now)


def _job(metadata: Any, project: str) -> str:
    job = metadata.get("job") if isinstance(metadata, dict) and metadata.get("project") == project else ""
    return job if isinstance(job, str) else ""


class EventQueue:
    """A project's events, for all threads. Methods raise StoreError and OSError."""

    def __init__(self, folder: Path) -> None:
        self._waiting = folder / "waiting"
        self._done = folder / "done"
        for one in (self._waiting, self._done):
            private_folder(one)

    def add(self, event: Event) -> bool:
        """Store an event durably. Return False for a repeated one."""
        path = self._waiting / f"{event.name}.json"
        if path.exists() or (self._done / path.name).exists():
            return False
        fields = {"profile": event.profile, "batch": event.batch, "type": event.kind, "job": event.job}
        with atomic_write(path) as file:
            file.write(orjson.dumps({**fields, "received": event.received}))
        return True

    def waiting(self) -> list[Event]:
        """Return the events to handle, oldest first."""
        found = [event for path in self._waiting.glob("*.json") if (event := _read(path)) is not None]
        return sorted(found, key=lambda event: (event.received, event.name))

    def finish(self, event: Event) -> None:
        """Mark an event as done. After a crash before this, the job continues again, which is harmless."""
        (self._waiting / f"{event.name}.json").replace(self._done / f"{event.name}.json")

    def sync(self) -> None:
        """Flush the marks."""
        sync_folder(self._done)

    def sweep(self, now: float | None = None) -> None:
        """Remove done events that can't come again."""
        now = time.time() if now is None else now
        for path in self._done.glob("*.json"):
            with suppress(OSError):
                if now - path.stat().st_mtime > KEPT:
                    path.unlink()


def _read(path: Path) -> Event | None:
    try:
        found = orjson.loads(path.read_bytes())
        return Event(
            path.stem,
            str(found["profile"]),
            str(found["batch"]),
            str(found["type"]),
            str(found["job"]),
            float(found["received"]),
        )
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        # An atomic write leaves no such file.
        path.unlink(missing_ok=True)
        return None
