"""The JavaScript library @xmpp/client as a client under test: a Node process
that runs xmppjs/bot.mjs."""

import asyncio
import itertools
import json
import os
import pathlib

from client import DEADLINE, Client, Message, Missed, Refused
from slix import Slix

BOT = pathlib.Path(__file__).parent / "xmppjs" / "bot.mjs"


class XmppJS(Client):
    kind = "xmpp.js"
    strong = ("SCRAM-SHA-1",)  # the strongest that the library has

    process = None
    reader = None

    async def register(self):
        """The library has no in-band registration, so slixmpp does it."""
        helper = Slix(self.server, self.tls, self.name, self.password)
        try:
            await helper.register()
        finally:
            await helper.close()

    async def login(self, password=None):
        self.forget()
        if self.process is None:
            await self._start()
        _, port = self.server.address(self.tls)
        scheme = {"starttls": "xmpp", "direct": "xmpps"}[self.tls]
        self.mechanism = await self._call(
            "login", service=f"{scheme}://{self.server.domain}:{port}", domain=self.server.domain,
            username=self.name, password=password or self.password)

    async def _start(self):
        self.process = await asyncio.create_subprocess_exec(
            "node", BOT, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            limit=1 << 20, env=os.environ | {"NODE_EXTRA_CA_CERTS": str(self.server.ca)})
        self.calls, self.ids = {}, itertools.count(1)
        self.reader = asyncio.create_task(self._read())

    async def _read(self):
        async for line in self.process.stdout:
            told = json.loads(line)
            if "id" in told:
                self.calls.pop(told["id"]).set_result(told)
            else:
                getattr(self, "_on_" + told.pop("event"))(**told)
        for call in self.calls.values():
            call.set_exception(Missed(f"xmpp.js {self.name}: the Node process ended"))

    def _on_trace(self, line):
        self.log(line)

    def _on_roster(self, items):
        self.roster.update(items)
        self.changed()

    def _on_presence(self, type, **stanza):
        sender = stanza["from"]
        if type == "subscribe":
            self.requests.add(sender)
            self.changed()
        elif type == "available":
            self.saw(sender)
        elif type == "unavailable":
            self.lost(sender)

    def _on_message(self, body, delayed, **stanza):
        self.messages.append(Message(stanza["from"], body, delayed))
        self.changed()

    async def _call(self, op, **args):
        number = next(self.ids)
        self.calls[number] = answer = asyncio.get_running_loop().create_future()
        self.process.stdin.write(json.dumps({"id": number, "op": op, **args}).encode() + b"\n")
        try:
            told = await asyncio.wait_for(answer, DEADLINE)
        except asyncio.TimeoutError:
            raise Missed(f"xmpp.js {self.name} awaited the end of {op} {args} for {DEADLINE:.0f} s; "
                         f"last traffic: {self.tail()}") from None
        error = told.get("error")
        if error and error["name"] == {"login": "SASLError", "iq": "StanzaError"}.get(op):
            raise Refused(error["condition"])
        if error:
            raise Missed(f"xmpp.js {self.name}: {op} {args} failed: {error['text']}; "
                         f"last traffic: {self.tail()}")
        return told.get("value")

    async def cut(self):
        """Loses the connection."""
        await self._call("cut")

    async def back(self):
        """Connects again, and returns whether the session goes on, the mechanism, and the full JID."""
        return await self._call("back")

    async def ping(self):
        await self._call("ping", to=self.server.domain)

    async def features(self):
        return set(await self._call("features", to=self.server.domain))

    async def subscribe(self, jid):
        await self._call("presence", to=jid, type="subscribe")

    async def approve(self, jid):
        await self._call("presence", to=jid, type="subscribed")

    async def send(self, jid, body):
        await self._call("message", to=jid, body=body)

    async def logout(self):
        await self._call("logout")

    async def close(self):
        if self.process is None:
            return
        self.process.stdin.close()
        try:
            await asyncio.wait_for(self.process.wait(), 5)
        except asyncio.TimeoutError:
            self.process.kill()
            await self.process.wait()
        await self.reader
