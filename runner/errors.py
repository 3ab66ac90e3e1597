"""Every error that this package raises on purpose. Only `runner.cli` turns errors into text and exit codes.

A code's meaning never changes; `docs/reference/errors/` has its page. BS1: specs. BS2: input. BS3: trust. BS4: files of
batchspec. BS5: the service. BS6: plans and money. BS7: the embedded service. BS8: commands.
"""

from __future__ import annotations

import errno
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One mistake in a user's file.

    `line` and `column` count from 1; 0 is the whole file. `public` omits values from rows. File `~` is no place.
    """

    file: str
    line: int
    column: int
    message: str
    hint: str = ""
    excerpt: str = ""
    code: str = ""
    public: str = ""

    def where(self) -> str:
        """Return `file`, `file:line` or `file:line:column`."""
        if self.line <= 0:
            return self.file
        return f"{self.file}:{self.line}:{self.column}" if self.column > 0 else f"{self.file}:{self.line}"

    def __str__(self) -> str:
        text = self.message if self.file == "~" else f"{self.where()}: {self.message}"
        return with_code(f"{text} ({self.hint})" if self.hint else text, self.code)


def with_code(text: str, code: str) -> str:
    """Return a message with its code on the first line."""
    first, end, rest = text.partition("\n")
    colon = ":" if end and first.endswith(":") else ""
    return f"{first.removesuffix(colon)} [{code}]{colon}{end}{rest}" if code else text


_MORE = 5
"""Most codes that `read_more` names."""


def read_more(codes: Iterable[str]) -> str:
    """Return the command that explains these codes; empty for none."""
    named = list(dict.fromkeys(codes))[:_MORE]
    return f"More: batchspec explain {' '.join(named)}" if named else ""


class BatchspecError(Exception):
    """Base of all errors. `hint` is what to do next, `code` the error's page."""

    code: str = ""
    usual_hint: str = ""

    def __init__(self, message: str, *, hint: str = "", code: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint or type(self).usual_hint
        self.code = code or type(self).code

    @property
    def codes(self) -> tuple[str, ...]:
        """Return the distinct codes."""
        return (self.code,) if self.code else ()

    def coded(self) -> str:
        """Return the message or problems, with codes."""
        return with_code(self.message, self.code)


class _Problems(BatchspecError):
    """Problems, sorted by file and place, never empty."""

    def __init__(self, problems: list[Problem] | tuple[Problem, ...], *, hint: str = "") -> None:
        usual = type(self).code
        coded = (p if p.code or p.file == "~" else replace(p, code=usual) for p in problems)
        self.problems = tuple(sorted(coded))
        super().__init__("\n".join(str(p) for p in self.problems), hint=hint)

    @property
    def codes(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(p.code for p in self.problems if p.code))

    def coded(self) -> str:
        return self.message


class SpecError(_Problems):
    """All problems of specs, batchspec.yaml and templates."""

    code = "BS112"


_ROW = re.compile(r'^row (?:"(?:[^"\\]|\\.)*"|[^":]+): ')
"""Matches the row in a problem's message."""
_ALIKE = 3
"""Most rows named with the same problem; others are counted."""


class InputError(_Problems):
    """Rows can't be read or rendered. Has many problems at once."""

    code = "BS203"

    def __init__(self, problems: list[Problem] | tuple[Problem, ...], *, hint: str = "") -> None:
        super().__init__(problems, hint=hint)
        self.message = "\n".join(_condensed(self.problems))

    @property
    def public(self) -> str:
        """Return the message for readers who may not see input."""
        return "\n".join(
            p.message if p.file == "~" else with_code(f"{p.where()}: {p.public or 'its content is not valid'}", p.code)
            for p in self.problems
        )


class NoInput(InputError):
    """The input has no rows, or its file is missing. A recurring job's period waits for them."""

    code = "BS212"


def _condensed(problems: Sequence[Problem]) -> Iterator[str]:
    kinds = [(p.file, p.code, p.hint, _ROW.sub("", p.message)) for p in problems]
    counted, shown = Counter(kinds), Counter[tuple[str, str, str, str]]()
    for problem, kind in zip(problems, kinds, strict=True):
        shown[kind] += 1
        if shown[kind] <= _ALIKE or counted[kind] == _ALIKE + 1:
            yield str(problem)
        elif shown[kind] == _ALIKE + 1:
            yield f"and {counted[kind] - _ALIKE} more rows with this problem"


class WorkerError(BatchspecError):
    """A rendering process died. Nothing was submitted."""

    code = "BS210"


class TrustError(BatchspecError):
    """Only the environment may allow this."""

    code = "BS301"


class LockfileError(BatchspecError):
    """A lockfile is malformed, too new, or another project's. It was not changed."""

    code = "BS401"


class StoreError(BatchspecError):
    """A file below `.batchspec/` is damaged or can't be written."""

    code = "BS410"
    usual_hint = (
        "free some disk space or fix the permissions, then run the command again. Nothing recorded so far is lost."
    )


REFUSED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
"""Missing permissions and read-only file systems. Retrying does not help."""
_PERMISSIONS = (
    "give the user who runs this read and write permission for it and its folder (see `ls -ld`), then run the command "
    "again. Nothing recorded so far is lost."
)


def disk_error(error: OSError) -> StoreError:
    """Return the error for a failed read or write."""
    where = f"{error.filename}: " if error.filename else ""
    refused = error.errno in REFUSED
    hint = (
        _PERMISSIONS if refused else "run the command again: it continues from there. Nothing recorded so far is lost."
    )
    return StoreError(f"{where}{error.strerror or error}", hint=hint, code="BS411")


class ConflictError(BatchspecError):
    """The service contradicts the request. Nothing was submitted; the user decides."""

    code = "BS510"


class ServiceError(BatchspecError):
    """The embedded service can't start."""

    code = "BS701"


class ProviderError(BatchspecError):
    """A call failed."""

    code = "BS500"


class Unreachable(ProviderError):
    """No answer came. The service may have carried out the request."""

    code = "BS501"
    usual_hint = (
        "check your network, proxy and `base_url`, then re-run the command. "
        "It looks for batches it already created before creating new ones."
    )


class Malformed(ProviderError):
    """The answer is not what the API describes."""

    code = "BS502"
    usual_hint = "check `base_url`, and whether a proxy or login page answers instead; then re-run the command"


class ApiError(ProviderError):
    """The service answered with an error status.

    `error_id` is a name such as `not_found`; `request_id` is for the service's support.
    """

    def __init__(self, message: str, *, status: int, error_id: str = "", request_id: str = "", hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.error_id = error_id
        self.request_id = request_id


class Unauthorized(ApiError):
    """401 or 403."""

    code = "BS503"


class NotFound(ApiError):
    """404: no such file or batch for this key."""

    code = "BS504"
    usual_hint = "check the batch id and `base_url`, and that the key belongs to the account in the lockfile"


class Conflict(ApiError):
    """409: a wrong state, or a reused idempotency key."""

    code = "BS505"
    usual_hint = "check `batchspec status`, then apply again"


class NotReady(ApiError):
    """412: no results yet."""

    code = "BS506"
    usual_hint = "apply again in a few minutes"


class Rejected(ApiError):
    """400, 413 or 422: retrying can't help."""

    code = "BS507"
    usual_hint = "fix what the service's message complains about; retrying unchanged will fail again"


class RateLimited(ApiError):
    """429. `retry_after` is in seconds, or None."""

    code = "BS508"
    usual_hint = "apply again later; `max_in_flight` keeps jobs within the account's limits"

    def __init__(self, message: str, *, retry_after: float | None = None, **rest: object) -> None:
        super().__init__(message, **rest)  # type: ignore[arg-type]
        self.retry_after = retry_after


class QueueFull(RateLimited):
    """Too many tokens or batches are queued. Nothing was created or billed."""

    code = "BS511"
    usual_hint = "apply again when other batches of the account have ended, or lower `shards.max_bytes`"


class OutOfMoney(ApiError):
    """402 and similar: nothing was created or billed."""

    code = "BS512"
    usual_hint = "add credit or raise the account's limit, then apply again"


class ServerError(ApiError):
    """5xx. A create may have succeeded. `retry_after` is in seconds, or None."""

    code = "BS509"
    usual_hint = "apply again later. It looks for batches it already created before creating new ones."

    def __init__(self, message: str, *, retry_after: float | None = None, **rest: object) -> None:
        super().__init__(message, **rest)  # type: ignore[arg-type]
        self.retry_after = retry_after
