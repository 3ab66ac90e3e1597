"""How one batch service has been seen to speak, three times: the stub's own words for the same jobs.

Sources: the vendor's guide (27 Apr 2026), its OpenAPI description (Aug 2026), and the answers that `godo` records (Jul
2026). Nothing here is shared with the product, on either side of the wire.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

Json = dict[str, Any]
LASTS = timedelta(hours=1)
"""How long after its start a batch says that it ended, and its URLs expire."""


def text(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass
class Job:
    """A batch as the stub keeps it. `steps` are the states it goes through, one with each look at it."""

    id: str
    file_id: str
    order: Json
    steps: list[str]
    status: str
    total: int
    answers: dict[str, str] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    hidden: int = 0
    created: datetime = field(default_factory=_now)

    @property
    def later(self) -> str:
        return text(self.created + LASTS)

    @property
    def ended(self) -> bool:
        return self.status in {"completed", "failed", "expired", "cancelled"}

    @property
    def counts(self) -> Json:
        done = len(self.answers) if self.ended else 0
        return {"total": self.total, "completed": done, "failed": len(self.failures) if self.ended else 0}


class Dialect(Protocol):
    """`pages` says whether the list is cut into pages; `identity` whether a job tells its request_id and metadata."""

    pages: bool
    identity: bool

    def job(self, job: Job) -> Json: ...

    def page(self, jobs: list[Job], more: bool) -> Any: ...

    def results(self, job: Job, output: str | None, errors: str | None) -> Json: ...

    def pending(self, job: Job) -> tuple[int, Json]: ...

    def missing(self, order: Json) -> str: ...


class Guide:
    """The how-to page: `id`, `file_id`, `queued`; a list that is only said to be one."""

    pages = False
    identity = False

    def job(self, job: Job) -> Json:
        told: Json = {
            "id": job.id,
            "status": job.status,
            "model": "gpt-4o-mini",
            "file_id": job.file_id,
            "completion_window": "24h",
            "created_at": text(job.created),
            "request_counts": job.counts,
        }
        if job.ended:
            told |= {"usage": {"input_tokens": 14, "output_tokens": 3, "cached_tokens": 8}, "result_available": True}
        return told

    def page(self, jobs: list[Job], more: bool) -> Any:  # noqa: ARG002
        return [self.job(job) for job in jobs]

    def results(self, job: Job, output: str | None, errors: str | None) -> Json:
        return {"output_url": output, "error_url": errors, "expires_at": job.later}

    def pending(self, job: Job) -> tuple[int, Json]:  # noqa: ARG002
        return 412, {"id": "precondition_failed", "message": "Results are not available."}

    def missing(self, order: Json) -> str:
        return next((name for name in ("file_id", "completion_window") if name not in order), "")


class OpenApi:
    """The public description: `batch_id`, `input_file_id`, `finalizing`, cursors by id, everything told."""

    pages = True
    identity = True

    def job(self, job: Job) -> Json:
        stamped = {f"{job.status}_at": job.later} if job.ended else {}
        return {
            "batch_id": job.id,
            "status": "finalizing" if job.status == "queued" else job.status,
            "provider": job.order.get("provider"),
            "endpoint": job.order.get("endpoint"),
            "completion_window": "24h",
            "input_file_id": job.file_id,
            "output_file_id": "out-1" if job.ended else None,
            "error_file_id": None,
            "request_counts": job.counts,
            "request_id": job.order.get("request_id"),
            "metadata": job.order.get("metadata"),
            "errors": [],
            "created_at": text(job.created),
            "expires_at": text(job.created + timedelta(days=1)),
            **stamped,
        }

    def page(self, jobs: list[Job], more: bool) -> Any:
        told = [self.job(job) for job in jobs]
        first, last = (jobs[0].id, jobs[-1].id) if jobs else (None, None)
        return {"object": "list", "data": told, "first_id": first, "last_id": last, "has_more": more}

    def results(self, job: Job, output: str | None, errors: str | None) -> Json:
        files = {"output_file_url": output, "error_file_url": errors}
        return {"batch_id": job.id, "result_available": True, **files, "expires_at": job.later}

    def pending(self, job: Job) -> tuple[int, Json]:
        return 200, {"batch_id": job.id, "result_available": False, "output_file_url": None, "error_file_url": None}

    def missing(self, order: Json) -> str:
        needed = ["file_id", "provider", "completion_window", "request_id"]
        if order.get("provider") == "openai":
            needed.append("endpoint")
        elif "endpoint" in order:
            return "endpoint is forbidden"
        return next((name for name in needed if name not in order), "")


class Godo:
    """What the Go client recorded: `batch_id`, `file_id`, edges with cursors of their own, one download."""

    pages = True
    identity = True

    def job(self, job: Job) -> Json:
        return {
            "batch_id": job.id,
            "provider": job.order.get("provider"),
            "file_id": job.file_id,
            "completion_window": "24h",
            "endpoint": job.order.get("endpoint", ""),
            "status": job.status,
            "request_counts": job.counts,
            "result_available": job.ended,
            "request_id": job.order.get("request_id", ""),
            "metadata": job.order.get("metadata"),
            "created_at": text(job.created),
        }

    def page(self, jobs: list[Job], more: bool) -> Any:
        edges = [{"cursor": f"cursor:{job.id}", "node": self.job(job)} for job in jobs]
        end = edges[-1]["cursor"] if edges else ""
        return {"edges": edges, "page_info": {"endCursor": end, "hasNextPage": more}}

    def results(self, job: Job, output: str | None, errors: str | None) -> Json:
        download = {"presigned_url": output, "expires_at": job.later}
        return {"batch_id": job.id, "download": download, "output_file_id": "out-1", "error_file_url": errors}

    def pending(self, job: Job) -> tuple[int, Json]:  # noqa: ARG002
        return 412, {"id": "precondition_failed", "message": "not ready"}

    def missing(self, order: Json) -> str:
        return next((name for name in ("provider", "file_id", "completion_window") if name not in order), "")


DIALECTS: dict[str, Dialect] = {"guide": Guide(), "openapi": OpenApi(), "godo": Godo()}
