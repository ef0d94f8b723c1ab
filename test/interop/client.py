"""What every client under test can do, and how a step waits.

The client keeps what the server told it (roster, presence, requests, messages)
as state, and a step polls that state until it is what the story asks for. A step
that waits in vain says what it waited for and what came instead.
"""

import asyncio
import collections
import contextlib
import time

DEADLINE = 30.0  # seconds a single step may wait


class Missed(Exception):
    """A step waited in vain, or something came that must not come."""


class Refused(Exception):
    """The server refused a login or a request; the text is its condition."""


Message = collections.namedtuple("Message", "sender body delayed")


class Client:
    """State and waiting. Subclasses add the steps: register, login, logout,
    close, ping, features, subscribe, approve, send."""

    kind = "client"
    strong = ()  # mechanisms of which one must have been used

    def __init__(self, server, tls, name, password):
        self.server, self.tls, self.name, self.password = server, tls, name, password
        self.jid = f"{name}@{server.domain}"
        self.mechanism = None
        self.trace = []  # (time, line): everything sent and received
        self.forget()
        self._changed = asyncio.Event()

    def forget(self):
        """Drops the state of the last connection."""
        self.roster = {}  # bare JID: subscription
        self.online = set()  # full JIDs
        self.requests = set()  # bare JIDs that ask for our presence
        self.messages = []

    def log(self, line):
        self.trace.append((time.time(), line))

    def changed(self):
        self._changed.set()

    def saw(self, full_jid):
        """Records that an available presence came from full_jid."""
        self.online.add(full_jid)
        self.changed()

    def lost(self, full_jid):
        self.online.discard(full_jid)
        self.changed()

    async def until(self, what, probe, state):
        """Waits until probe() is true; state() tells, in the failure, what there
        was instead."""
        end = time.monotonic() + DEADLINE
        while True:
            self._changed.clear()
            if probe():
                return
            left = end - time.monotonic()
            if left <= 0:
                raise Missed(f"{self.kind} {self.name} awaited {what} for {DEADLINE:.0f} s; "
                             f"there was {state()!r}; last traffic: {self.tail()}")
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._changed.wait(), left)

    def tail(self, lines=6):
        return "".join(f"\n    {line[:400]}" for _, line in self.trace[-lines:]) or "none"

    async def await_request(self, jid):
        await self.until(f"a subscription request from {jid}", lambda: jid in self.requests,
                         lambda: self.requests)

    async def await_subscription(self, jid, want):
        await self.until(f"subscription {want!r} of {jid} in the roster",
                         lambda: self.roster.get(jid) == want, lambda: self.roster)

    async def await_presence(self, jid, available):
        def there():
            return any(full.split("/")[0] == jid for full in self.online) == available
        await self.until(f"{jid} to be {'available' if available else 'unavailable'}", there,
                         lambda: self.online)

    async def await_message(self, jid, body, delayed):
        """The next message must be this one: nothing else may come before it."""
        await self.until(f"message {body!r} from {jid}", lambda: self.messages,
                         lambda: self.messages)
        got = self.messages.pop(0)
        want = Message(jid, body, delayed)
        if got != want:
            raise Missed(f"{self.kind} {self.name} awaited {want}; there was {got}")
