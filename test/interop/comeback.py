"""A client that loses its connection, and comes back with a token to the session that it had."""

import os

from client import Missed
from xmppjs import XmppJS

TOKENS = "HT-SHA-256-"


class Comeback:
    """@xmpp/client speaks SASL2, Bind 2, FAST and stream management, each inside the other."""

    limit = 120.0
    cluster = False
    settings = ()

    def __init__(self, tls):
        self.tls = tls

    async def play(self, server, cast, options):
        suffix = os.urandom(3).hex()
        cast.extend(XmppJS(server, self.tls, f"{who}{suffix}", f"{who} sesame") for who in ("romeo", "juliet"))
        romeo, juliet = cast
        for client in cast:
            await client.register()
            await client.login()
        await romeo.send(juliet.jid, "are you there?")
        await juliet.await_message(romeo.jid, "are you there?", delayed=False)
        for turn in range(3):
            await romeo.cut()
            for n in range(3):
                await juliet.send(romeo.jid, f"{turn}, {n}")
            await juliet.ping()  # what was sent before is handled
            await self._back(romeo, resumed=True)
            for n in range(3):
                await romeo.await_message(juliet.jid, f"{turn}, {n}", delayed=True)
            await romeo.send(juliet.jid, f"back {turn}")
            await juliet.await_message(romeo.jid, f"back {turn}", delayed=False)
        await romeo.logout()
        await romeo.login()
        await juliet.send(romeo.jid, "again")
        await romeo.await_message(juliet.jid, "again", delayed=False)

    async def _back(self, client, resumed):
        got = await client.back()
        if got["resumed"] != resumed or not got["mechanism"].startswith(TOKENS):
            raise Missed(f"{client.name} came back as {got}; last traffic: {client.tail()}")
