"""Every error this package raises on purpose, and nothing else.

The tree, so that a reader sees it whole::

    BatchspecError
    ├── SpecError            what people wrote is wrong: carries all problems at once
    ├── InputError           an input row or its rendering is wrong: carries all problems, up to a bound
    ├── TrustError           a key, host, path or variable that the environment has not allowed
    ├── LockfileError        the lockfile is not the format, too new, or another project's
    ├── WorkerError          a process that renders ended before its time; nothing was submitted
    ├── StoreError           a file of the store is damaged or cannot be written
    ├── ConflictError        the service holds something that contradicts what is asked; a person decides
    ├── ServiceError         the embedded service cannot start
    └── ProviderError        the service at the other end
        ├── Unreachable      no answer: the request may or may not have had its effect
        ├── Malformed        an answer that cannot be understood
        └── ApiError         an answer with an error status
            ├── Unauthorized     401, 403
            ├── NotFound         404
            ├── Conflict         409
            ├── NotReady         412
            ├── Rejected         400, 413, 422
            ├── RateLimited      429
            └── ServerError      5xx

Only ``runner.cli`` turns them into text and exit codes.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing that is wrong in a file somebody wrote.

    ``line`` and ``column`` count from 1; 0 means the whole file. ``row`` is the row's id where there is one.
    ``excerpt`` is the line as it stands in the file, without its line end. ``public`` is the message without what
    stands in rows; empty where that can't be told apart. A ``file`` of `~` is none: the message stands for itself.
    """

    file: str
    line: int
    column: int
    message: str
    hint: str = ""
    excerpt: str = ""
    public: str = ""

    def where(self) -> str:
        """`file`, `file:line` or `file:line:column`, as far as the place is known."""
        if self.line <= 0:
            return self.file
        return f"{self.file}:{self.line}:{self.column}" if self.column > 0 else f"{self.file}:{self.line}"

    def __str__(self) -> str:
        text = self.message if self.file == "~" else f"{self.where()}: {self.message}"
        return f"{text} ({self.hint})" if self.hint else text


class BatchspecError(Exception):
    """Base of all errors here. ``hint`` says what to do next, as a sentence."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class _Problems(BatchspecError):
    """An error that is a list of problems; sorted by file and place, never empty."""

    def __init__(self, problems: list[Problem] | tuple[Problem, ...], *, hint: str = "") -> None:
        self.problems = tuple(sorted(problems))
        super().__init__("\n".join(str(p) for p in self.problems), hint=hint)


class SpecError(_Problems):
    """Specs, batchspec.yaml or templates do not say something valid."""


class InputError(_Problems):
    """Input rows cannot be read or rendered."""

    @property
    def public(self) -> str:
        """What may be said where the input must not be shown: places, and what is wrong as far as it is no row's."""
        return "\n".join(
            p.message if p.file == "~" else f"{p.where()}: {p.public or 'what is here can not be used'}"
            for p in self.problems
        )


class WorkerError(BatchspecError):
    """A process that renders ended before its time. Nothing was submitted."""


class TrustError(BatchspecError):
    """Something that only the environment may allow was asked for by the repository."""


class LockfileError(BatchspecError):
    """A lockfile that cannot be used; nothing of it was changed."""


class StoreError(BatchspecError):
    """A file below `.batchspec/` is damaged or cannot be written."""


def disk_error(error: OSError) -> StoreError:
    """The error for a file or folder that the system does not let us use."""
    where = f"{error.filename}: " if error.filename else ""
    return StoreError(
        f"{where}{error.strerror or error}", hint="what is recorded stays; the same command goes on from there"
    )


class ConflictError(BatchspecError):
    """The service holds something that contradicts what is asked. Nothing was submitted."""


class ServiceError(BatchspecError):
    """The embedded service cannot start or its backend is not there."""


class ProviderError(BatchspecError):
    """Base of what can go wrong with the service at the other end."""


class Unreachable(ProviderError):
    """No answer came. Whether the request had its effect is not known."""


class Malformed(ProviderError):
    """The answer is not what the API describes."""


class ApiError(ProviderError):
    """The service answered with an error status.

    ``status`` is the HTTP status, ``code`` the service's error id (for example ``not_found``), ``request_id`` what the
    service calls this exchange, for its support.
    """

    def __init__(self, message: str, *, status: int, code: str = "", request_id: str = "", hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.code = code
        self.request_id = request_id


class Unauthorized(ApiError):
    """401 or 403: the key is missing, wrong or not allowed to do this."""


class NotFound(ApiError):
    """404: there is no such file or batch for this key."""


class Conflict(ApiError):
    """409: the state of the batch, or an idempotency key used for something else."""


class NotReady(ApiError):
    """412: results are not there yet."""


class Rejected(ApiError):
    """400, 413 or 422: the request itself is wrong; sending it again cannot help."""


class RateLimited(ApiError):
    """429. ``retry_after`` is in seconds; None where the service did not say."""

    def __init__(self, message: str, *, retry_after: float | None = None, **rest: object) -> None:
        super().__init__(message, **rest)  # type: ignore[arg-type]
        self.retry_after = retry_after


class ServerError(ApiError):
    """5xx. A create answered so may still have had its effect. ``retry_after`` is as with RateLimited."""

    def __init__(self, message: str, *, retry_after: float | None = None, **rest: object) -> None:
        super().__init__(message, **rest)  # type: ignore[arg-type]
        self.retry_after = retry_after
