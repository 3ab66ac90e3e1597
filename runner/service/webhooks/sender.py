"""The thread that delivers webhooks. Jobs do not wait for it: what stands in the outbox is what is to do."""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import closing
from typing import TYPE_CHECKING

import orjson

from runner.service import logger
from runner.service.config import ServiceConfig
from runner.service.db.batches import Batch, Batches
from runner.service.db.database import Database
from runner.service.db.outbox import Attempt, Delivery, Outbox
from runner.service.faults.faults import Faults
from runner.service.loop import LoopThread
from runner.service.webhooks.payload import headers, message, shown
from runner.service.webhooks.targets import Targets

if TYPE_CHECKING:
    from runner.service.webhooks.pinned_sender import Sender

RETRIES = 3
"""After the first attempt, as the vendor's guide has it."""

GROWTH = 5.0
"""Each pause is so many times the one before."""

MAX_CONCURRENT = 200
"""Deliveries under way. Many, so that some receivers that hang leave room for the others."""

SHUTDOWN_GRACE = 0.3
"""Seconds that deliveries under way get when the service stops; they are made again with the next start."""

ERROR_BACKOFF = 5.0
"""Seconds after trouble of our own, as with a full disk."""

_THREAD = "batchspec-webhooks"


class WebhookSender:
    """Delivers what stands in the outbox, from `start` to `stop`, in a thread of its own."""

    def __init__(self, config: ServiceConfig, faults: Faults, targets: Targets) -> None:
        self._config = config
        self._targets = targets
        self._faults = faults
        self._thread = LoopThread(_THREAD, self._work)
        self._woken = asyncio.Event()
        self._stopping = False
        self._under_way: dict[str, asyncio.Task[None]] = {}

    def start(self) -> None:
        """Start delivering, with what an earlier process left. Raises what kept the thread from starting."""
        self._thread.start()

    def stop(self) -> None:
        """Stop within half a second; what is not acknowledged by then is delivered after the next start."""
        self._stopping = True
        self.wake()
        self._thread.join()

    def wake(self) -> None:
        """Something new stands in the outbox. From any thread."""
        self._thread.tell(self._woken.set)

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
        tasks = [*self._under_way.values()]
        if tasks:
            await asyncio.wait(tasks, timeout=SHUTDOWN_GRACE)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        if self._sender:
            await self._sender.close()

    def _start_due(self) -> float:
        """Begin what is due, and return in how many seconds to look again."""
        now = time.time()
        try:
            room = MAX_CONCURRENT - len(self._under_way)
            for delivery in self._outbox.due(now, but=self._under_way, limit=room) if room else ():
                self._under_way[delivery.batch_id] = asyncio.create_task(self._deliver(delivery))
            # Without room the next one to end wakes us.
            due = self._outbox.next_due(but=self._under_way) if len(self._under_way) < MAX_CONCURRENT else None
        except Exception:  # noqa: BLE001 - a locked or full disk passes
            logger.error("courier.interrupted", again_in_seconds=ERROR_BACKOFF)
            return ERROR_BACKOFF
        return ERROR_BACKOFF if due is None else min(max(due - now, 0.01), ERROR_BACKOFF)

    async def _deliver(self, delivery: Delivery) -> None:
        """Make one attempt and write down what came of it."""
        batch = self._batches.get(delivery.batch_id)
        assert batch is not None
        try:
            if not delivery.attempts and (seconds := self._strikes("webhook-late", batch)) is not None:
                await asyncio.sleep(float(seconds))
            attempt = await self._attempt(batch, delivery.attempts + 1)
            self._record(batch, attempt)
            if attempt.acknowledged and self._strikes("webhook-twice", batch) is not None:
                await self._attempt(batch, attempt.number)
        except Exception:  # noqa: BLE001 - one delivery's trouble must not end the others
            logger.error("webhook.interrupted", batch=batch.id, again_in_seconds=ERROR_BACKOFF)
            await asyncio.sleep(ERROR_BACKOFF)
        finally:
            self._under_way.pop(delivery.batch_id, None)
            self._woken.set()

    def _strikes(self, name: str, batch: Batch) -> str | None:
        detail = self._faults.draw(name)
        if detail is not None:
            logger.info("fault.struck", fault=name, batch=batch.id)
        return detail

    def _record(self, batch: Batch, attempt: Attempt) -> None:
        assert batch.webhook is not None
        pause = None if attempt.acknowledged or attempt.number > RETRIES else self._pause(attempt.number)
        self._outbox.record(batch.id, attempt, None if pause is None else time.time() + pause)
        to = shown(orjson.loads(batch.webhook)["url"])
        said = {"batch": batch.id, "to": to, "attempt": attempt.number, "seconds": round(attempt.seconds, 3)}
        if attempt.acknowledged:
            logger.info("webhook.delivered", status=attempt.status, **said)
        elif pause is None:
            logger.warning("webhook.given_up", status=attempt.status, error=attempt.error, **said)
        else:
            said["again_in_seconds"] = round(pause, 1)
            logger.warning("webhook.failed", status=attempt.status, error=attempt.error, **said)

    def _pause(self, number: int) -> float:
        spread = random.uniform(0.75, 1.25)  # noqa: S311 - so that many receivers are not met at once
        return self._config.lasting(self._config.webhook_backoff) * GROWTH ** (number - 1) * spread

    async def _attempt(self, batch: Batch, number: int) -> Attempt:
        from runner.service.webhooks.pinned_sender import NotPermitted  # noqa: PLC0415 - see _sending

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
        except Exception as caught:  # noqa: BLE001 - whatever keeps it from being sent is this attempt's outcome
            error = _reason(caught)
        return Attempt(number, began, time.monotonic() - started, status, error)

    async def _post(self, batch: Batch, now: float) -> int:
        """Send it and return the status."""
        assert batch.webhook is not None
        webhook = orjson.loads(batch.webhook)
        content = message(batch)
        signed = headers(batch, webhook["secret"], content, now)
        return await self._sending().post(webhook["url"], content, signed)

    def _sending(self) -> Sender:
        if self._sender is None:
            from runner.service.webhooks.pinned_sender import Sender  # noqa: PLC0415 - a while to import, and most jobs have no webhook

            self._sender = Sender(self._targets, timeout=self._config.webhook_timeout, at_once=MAX_CONCURRENT)
        return self._sender


def _reason(error: Exception) -> str:
    """Return why nothing could be sent, in words that hold neither the URL's path nor the secret."""
    if isinstance(error, ValueError):
        return f"{error}"[:300]
    return f"{type(error).__name__}: {error}"[:300] if str(error) else type(error).__name__
