"""The thread that delivers webhooks. The outbox is its queue, so jobs do not wait."""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any

import orjson

from runner.http_server import logger
from runner.service.config import ServiceConfig
from runner.service.db.batches import Batch, Batches
from runner.service.db.database import Database
from runner.service.db.outbox import Attempt, Delivery, Outbox
from runner.service.faults.faults import Faults
from runner.service.loop import LoopThread
from runner.service.webhooks.payload import headers, message, redacted_url
from runner.service.webhooks.targets import Targets

if TYPE_CHECKING:
    from runner.service.webhooks.pinned_sender import Sender

RETRIES = 3
"""Retries after the first attempt, as in the vendor's guide."""

GROWTH = 5.0
"""Factor from one delay to the next."""

MAX_CONCURRENT = 200
"""Deliveries at the same time. Many, so that hanging receivers do not block others."""

SHUTDOWN_GRACE = 0.3
"""Seconds that running deliveries get when the service stops. The next start repeats them."""

ERROR_BACKOFF = 5.0
"""Seconds to wait after an error of this service, such as a full disk."""

_THREAD = "batchspec-webhooks"


class WebhookSender:
    """Delivers the webhooks in the outbox in its own thread."""

    def __init__(self, config: ServiceConfig, faults: Faults, targets: Targets) -> None:
        self._config = config
        self._targets = targets
        self._faults = faults
        self._thread = LoopThread(_THREAD, self._work)
        self._woken = asyncio.Event()
        self._stopping = False
        self._active: dict[str, asyncio.Task[None]] = {}

    def start(self) -> None:
        """Deliver, also an earlier process's webhooks. Raises the setup's exception."""
        self._thread.start()

    def stop(self) -> None:
        """Stop within half a second. The next start delivers the rest."""
        self._stopping = True
        self.wake()
        self._thread.join()

    def wake(self) -> None:
        """Signal a change in the outbox, from any thread."""
        self._thread.call_soon(self._woken.set)

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        self._sender: Sender | None = None
        with closing(Database(self._config.data / "service.db")) as db:
            self._outbox, self._batches = Outbox(db), Batches(db)
            self._thread.ready()
            while not self._stopping:
                self._woken.clear()
                timer = loop.call_later(self._start_due(), self._woken.set)
                await self._woken.wait()
                timer.cancel()
            await self._end()

    async def _end(self) -> None:
        tasks = [*self._active.values()]
        if tasks:
            await asyncio.wait(tasks, timeout=SHUTDOWN_GRACE)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        if self._sender:
            await self._sender.close()

    def _start_due(self) -> float:
        now = time.time()
        try:
            free = MAX_CONCURRENT - len(self._active)
            for delivery in self._outbox.due(now, exclude=self._active, limit=free) if free else ():
                self._active[delivery.batch_id] = asyncio.create_task(self._deliver(delivery))
            # At the maximum, the next delivery that ends sets `_woken`.
            due = self._outbox.next_due(exclude=self._active) if len(self._active) < MAX_CONCURRENT else None
        except Exception:  # noqa: BLE001 - a locked or full disk passes
            logger.error("courier.interrupted", again_in_seconds=ERROR_BACKOFF)
            return ERROR_BACKOFF
        return ERROR_BACKOFF if due is None else min(max(due - now, 0.01), ERROR_BACKOFF)

    async def _deliver(self, delivery: Delivery) -> None:
        batch = self._batches.get(delivery.batch_id)
        assert batch is not None
        try:
            if not delivery.attempts and (seconds := self._fault("webhook-late", batch)) is not None:
                await asyncio.sleep(float(seconds))
            attempt = await self._attempt(batch, delivery.attempts + 1)
            self._record(batch, attempt)
            if attempt.acknowledged and self._fault("webhook-twice", batch) is not None:
                await self._attempt(batch, attempt.number)
        except Exception:  # noqa: BLE001 - one delivery's error must not end the others
            logger.error("webhook.interrupted", batch=batch.id, again_in_seconds=ERROR_BACKOFF)
            await asyncio.sleep(ERROR_BACKOFF)
        finally:
            self._active.pop(delivery.batch_id, None)
            self._woken.set()

    def _fault(self, name: str, batch: Batch) -> str | None:
        detail = self._faults.draw(name)
        if detail is not None:
            logger.info("fault.struck", fault=name, batch=batch.id)
        return detail

    def _record(self, batch: Batch, attempt: Attempt) -> None:
        assert batch.webhook is not None
        delay = None if attempt.acknowledged or attempt.number > RETRIES else self._delay(attempt.number)
        self._outbox.record(batch.id, attempt, None if delay is None else time.time() + delay)
        to = redacted_url(orjson.loads(batch.webhook)["url"])
        fields: dict[str, Any] = {
            "batch": batch.id,
            "to": to,
            "attempt": attempt.number,
            "seconds": round(attempt.seconds, 3),
        }
        if attempt.acknowledged:
            logger.info("webhook.delivered", status=attempt.status, **fields)
        elif delay is None:
            logger.warning("webhook.given_up", status=attempt.status, error=attempt.error, **fields)
        else:
            fields["again_in_seconds"] = round(delay, 1)
            logger.warning("webhook.failed", status=attempt.status, error=attempt.error, **fields)

    def _delay(self, number: int) -> float:
        jitter = random.uniform(0.75, 1.25)  # noqa: S311 - spreads deliveries
        return self._config.lasting(self._config.webhook_backoff) * GROWTH ** (number - 1) * jitter

    async def _attempt(self, batch: Batch, number: int) -> Attempt:
        from runner.service.webhooks.pinned_sender import NotPermitted  # noqa: PLC0415 - see _get_sender

        began, started = time.time(), time.monotonic()
        status, error = None, None
        try:
            async with asyncio.timeout(self._config.webhook_timeout):
                status = await self._post(batch, began)
        except TimeoutError:
            error = f"no answer within {self._config.webhook_timeout:g} seconds"
        except NotPermitted:
            # The time would show whether an internal name exists.
            return Attempt(number, began, 0.0, None, "the host has no address that webhooks may be sent to")
        except Exception as caught:  # noqa: BLE001 - any error is the outcome of this attempt
            error = _reason(caught)
        return Attempt(number, began, time.monotonic() - started, status, error)

    async def _post(self, batch: Batch, now: float) -> int:
        assert batch.webhook is not None
        webhook = orjson.loads(batch.webhook)
        content = message(batch)
        signed = headers(batch, webhook["secret"], content, now)
        return await self._get_sender().post(webhook["url"], content, signed)

    def _get_sender(self) -> Sender:
        if self._sender is None:
            from runner.service.webhooks.pinned_sender import Sender  # noqa: PLC0415 - slow and seldom needed

            self._sender = Sender(self._targets, timeout=self._config.webhook_timeout, max_connections=MAX_CONCURRENT)
        return self._sender


def _reason(error: Exception) -> str:
    """Return an error's text without the URL's path and the secret."""
    if isinstance(error, ValueError):
        return f"{error}"[:300]
    return f"{type(error).__name__}: {error}"[:300] if str(error) else type(error).__name__
