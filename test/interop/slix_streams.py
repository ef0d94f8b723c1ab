"""slixmpp with stream management, archive and carbons, by its plugins."""

import asyncio

from client import DEADLINE
from slix import Slix
from streams import PAGE, Copy, Page, Streams


class SlixStreams(Slix, Streams):
    plugins = (*Slix.plugins, "xep_0198", "xep_0280", "xep_0313")

    clients = 0

    def __init__(self, *args):
        super().__init__(*args)
        SlixStreams.clients += 1
        self.resource = f"slix{SlixStreams.clients}"  # an account may have two clients

    def _listen(self, outcome):
        super()._listen(outcome)
        for direction in ("sent", "received"):
            self.xmpp.add_event_handler(f"carbon_{direction}", lambda st, d=direction: self._on_copy(d, st))

    def _on_copy(self, direction, stanza):
        message = stanza[f"carbon_{direction}"]
        self.copies.append(Copy(direction, message["from"].bare, message["body"]))
        self.changed()

    async def resume(self):
        outcome = asyncio.get_running_loop().create_future()

        def settle(resumed):
            if not outcome.done():
                outcome.set_result(resumed)

        self.xmpp.add_event_handler("session_resumed", lambda _: settle(True))
        self.xmpp.add_event_handler("session_start", lambda _: settle(False))
        if self.xmpp.transport is not None:
            gone = asyncio.ensure_future(self.xmpp.wait_until("disconnected", DEADLINE))
            self.xmpp.transport.abort()  # or TLS may wait for the other side to say goodbye
            await self._settled("the end of the connection", gone)
        self.xmpp.connect(*self.server.address(self.tls))
        return await self._settled("a stream again", outcome)

    async def page(self, jid, **key):
        ask = self.xmpp["xep_0313"].retrieve
        if key == {"before": ""}:  # only the library's iterator can say so, which then stops too early
            asked = anext(ask(with_jid=jid, reverse=True, iterator=True, rsm={"max": PAGE}))
        else:
            asked = ask(with_jid=jid, rsm={"max": PAGE, **key}, timeout=DEADLINE)
        answer = await self._settled("a page of the archive", asked)
        results, fin = answer["mam"]["results"], answer["mam_fin"]
        count = fin["rsm"]["count"]
        return Page([stanza["mam_result"]["id"] for stanza in results],
                    [stanza["mam_result"]["forwarded"]["stanza"]["body"] for stanza in results],
                    fin["rsm"]["first"], fin["rsm"]["last"], int(count) if count else None, fin["complete"] == "true")

    async def carbons_on(self):
        await self._settled("carbons", self.xmpp["xep_0280"].enable(timeout=DEADLINE))
