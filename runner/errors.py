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
            │   └── QueueFull    the account has too many tokens or batches in its queue
            ├── OutOfMoney       402, and codes that say that the account can't pay
            └── ServerError      5xx

Each carries a code, BS and three digits, which never changes its meaning: what is raised says it, else its class does.
`docs/reference/errors/` has a page for each, which `batchspec explain CODE` prints. BS1 are specs, BS2 input, BS3
trust, BS4 files that batchspec keeps, BS5 the service, BS6 plans and money, BS7 the embedded service, BS8 commands.

Only ``runner.cli`` turns them into text and exit codes.
"""

from __future__ import annotations

import errno
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing that is wrong in a file somebody wrote.

    ``line`` and ``column`` count from 1; 0 means the whole file. ``excerpt`` is the line as it stands in the file,
    without its line end. ``code`` is the error's. ``public`` is the message without what stands in rows; empty where
    that can't be told apart. A ``file`` of `~` is none: the message stands for itself.
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
        """`file`, `file:line` or `file:line:column`, as far as the place is known."""
        if self.line <= 0:
            return self.file
        return f"{self.file}:{self.line}:{self.column}" if self.column > 0 else f"{self.file}:{self.line}"

    def __str__(self) -> str:
        text = self.message if self.file == "~" else f"{self.where()}: {self.message}"
        return with_code(f"{text} ({self.hint})" if self.hint else text, self.code)


def with_code(text: str, code: str) -> str:
    """A message with its code at the end of its first line."""
    first, end, rest = text.partition("\n")
    colon = ":" if end and first.endswith(":") else ""
    return f"{first.removesuffix(colon)} [{code}]{colon}{end}{rest}" if code else text


_MORE = 5
"""Codes that one line names."""


def read_more(codes: Iterable[str]) -> str:
    """The line that says where to read more of errors with these codes; empty for none."""
    named = list(dict.fromkeys(codes))[:_MORE]
    return f"More: batchspec explain {' '.join(named)}" if named else ""


class BatchspecError(Exception):
    """Base of all errors here. ``hint`` says what to do next, as a sentence; ``code`` names the error's page.

    A class may have a ``usual_hint`` for where nothing better is known.
    """

    code: str = ""
    usual_hint: str = ""

    def __init__(self, message: str, *, hint: str = "", code: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint or type(self).usual_hint
        self.code = code or type(self).code

    @property
    def codes(self) -> tuple[str, ...]:
        """All codes of this error, each once."""
        return (self.code,) if self.code else ()

    def coded(self) -> str:
        """The message with its code, or its problems with theirs."""
        return with_code(self.message, self.code)


class _Problems(BatchspecError):
    """An error that is a list of problems; sorted by file and place, never empty."""

    def __init__(self, problems: list[Problem] | tuple[Problem, ...], *, hint: str = "") -> None:
        usual = type(self).code
        coded = (p if p.code or p.file == "~" else replace(p, code=usual) for p in problems)
        self.problems = tuple(sorted(coded))
        super().__init__("\n".join(str(p) for p in self.problems), hint=hint)

    @property
    def codes(self) -> tuple[str, ...]:
        """All codes of the problems, each once."""
        return tuple(dict.fromkeys(p.code for p in self.problems if p.code))

    def coded(self) -> str:
        """The problems, each with its code."""
        return self.message


class SpecError(_Problems):
    """Specs, batchspec.yaml or templates do not say something valid."""

    code = "BS112"


_ROW = re.compile(r'^row (?:"(?:[^"\\]|\\.)*"|[^":]+): ')
"""How a problem's message names its row."""
_ALIKE = 3
"""Rows with the same problem that a text names; the others are counted."""


class InputError(_Problems):
    """Input rows cannot be read or rendered. Its message names a few of the rows that have the same problem."""

    code = "BS203"

    def __init__(self, problems: list[Problem] | tuple[Problem, ...], *, hint: str = "") -> None:
        super().__init__(problems, hint=hint)
        self.message = "\n".join(_condensed(self.problems))

    @property
    def public(self) -> str:
        """What may be said where the input must not be shown: places, and what is wrong as far as it is no row's."""
        return "\n".join(
            p.message
            if p.file == "~"
            else with_code(f"{p.where()}: {p.public or 'what is here can not be used'}", p.code)
            for p in self.problems
        )


def _condensed(problems: Sequence[Problem]) -> Iterator[str]:
    """All problems in their order; of many that differ by their row only, the first few and how many there are more."""
    kinds = [(p.file, p.code, p.hint, _ROW.sub("", p.message)) for p in problems]
    counted, said = Counter(kinds), Counter[tuple[str, str, str, str]]()
    for problem, kind in zip(problems, kinds, strict=True):
        said[kind] += 1
        if said[kind] <= _ALIKE or counted[kind] == _ALIKE + 1:
            yield str(problem)
        elif said[kind] == _ALIKE + 1:
            yield f"and {counted[kind] - _ALIKE} more rows with this problem"


class WorkerError(BatchspecError):
    """A process that renders ended before its time. Nothing was submitted."""

    code = "BS210"


class TrustError(BatchspecError):
    """Something that only the environment may allow was asked for by the repository."""

    code = "BS301"


class LockfileError(BatchspecError):
    """A lockfile that cannot be used; nothing of it was changed."""

    code = "BS401"


class StoreError(BatchspecError):
    """A file below `.batchspec/` is damaged or cannot be written."""

    code = "BS410"
    usual_hint = "make room or mend its rights, and run the command again; what is recorded stays"


REFUSED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
"""What the system says where rights are missing, or a whole file system is read-only: trying again does not help."""
_RIGHTS = (
    "let the user who runs this read and write it and its folder (`ls -ld` shows their rights), and run the same "
    "command again; what is recorded stays"
)


def disk_error(error: OSError) -> StoreError:
    """The error for a file or folder that the system does not let us use."""
    where = f"{error.filename}: " if error.filename else ""
    refused = error.errno in REFUSED
    hint = _RIGHTS if refused else "what is recorded stays; the same command goes on from there"
    return StoreError(f"{where}{error.strerror or error}", hint=hint, code="BS411")


class ConflictError(BatchspecError):
    """The service holds something that contradicts what is asked. Nothing was submitted."""

    code = "BS510"


class ServiceError(BatchspecError):
    """The embedded service cannot start or its backend is not there."""

    code = "BS701"


class ProviderError(BatchspecError):
    """Base of what can go wrong with the service at the other end."""

    code = "BS500"


class Unreachable(ProviderError):
    """No answer came. Whether the request had its effect is not known."""

    code = "BS501"
    usual_hint = "check network, proxy and `base_url`; the same command goes on, and looks first for what was made"


class Malformed(ProviderError):
    """The answer is not what the API describes."""

    code = "BS502"
    usual_hint = "check `base_url`, and whether a proxy or login page answers in its place; then run it again"


class ApiError(ProviderError):
    """The service answered with an error status.

    ``status`` is the HTTP status, ``error_id`` the service's error id (for example ``not_found``), ``request_id`` what
    the service calls this exchange, for its support.
    """

    def __init__(self, message: str, *, status: int, error_id: str = "", request_id: str = "", hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.error_id = error_id
        self.request_id = request_id


class Unauthorized(ApiError):
    """401 or 403: the key is missing, wrong or not allowed to do this."""

    code = "BS503"


class NotFound(ApiError):
    """404: there is no such file or batch for this key."""

    code = "BS504"
    usual_hint = "check the batch id, `base_url`, and whether the key is of the account that the lockfile speaks of"


class Conflict(ApiError):
    """409: the state of the batch, or an idempotency key used for something else."""

    code = "BS505"
    usual_hint = "look at `batchspec status`, and apply again"


class NotReady(ApiError):
    """412: results are not there yet."""

    code = "BS506"
    usual_hint = "apply again in some minutes"


class Rejected(ApiError):
    """400, 413 or 422: the request itself is wrong; sending it again cannot help."""

    code = "BS507"
    usual_hint = "mend what the service's words name; the same again would be refused again"


class RateLimited(ApiError):
    """429. ``retry_after`` is in seconds; None where the service did not say."""

    code = "BS508"
    usual_hint = "apply again later; `max_in_flight` keeps jobs inside an account's limits"

    def __init__(self, message: str, *, retry_after: float | None = None, **rest: object) -> None:
        super().__init__(message, **rest)  # type: ignore[arg-type]
        self.retry_after = retry_after


class QueueFull(RateLimited):
    """A create was refused because the account has too much in its queue; nothing was created or billed."""

    code = "BS511"
    usual_hint = "apply again when other batches of the account have ended, or set a smaller `shards.max_bytes`"


class OutOfMoney(ApiError):
    """The account can't pay: no quota, no credit, a spending limit. Nothing was created or billed."""

    code = "BS512"
    usual_hint = "add credit or raise the account's limit, then apply again"


class ServerError(ApiError):
    """5xx. A create answered so may still have had its effect. ``retry_after`` is as with RateLimited."""

    code = "BS509"
    usual_hint = "apply again later; it looks first for what was made"

    def __init__(self, message: str, *, retry_after: float | None = None, **rest: object) -> None:
        super().__init__(message, **rest)  # type: ignore[arg-type]
        self.retry_after = retry_after
