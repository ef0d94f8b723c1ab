"""What keeps messages from being lost, one step for each: a stream that is resumed, the archive, copies for the other
clients of an account. Romeo and juliet take the steps with the same library; juliet has two clients."""

import collections

from client import Client, Missed
from features import same
from story import befriend, log_in

MANY, PAGE = 120, 50  # messages in the archive, and of them on a page

Page = collections.namedtuple("Page", "ids bodies first last count complete")
Copy = collections.namedtuple("Copy", "direction sender body")  # direction: "sent" or "received"


class Streams(Client):
    """What a client must be able to do besides the story. Subclasses add:

    resume() -> was the stream resumed     page(jid or None, after=ID) or page(…, before=ID or "") -> Page
    carbons_on()
    """

    def forget(self):
        super().forget()
        self.copies = []

    async def pages(self, jid, backward):
        pages, key = [], {"before": ""} if backward else {}
        while not pages or not pages[-1].complete:
            pages.append(await self.page(jid, **key))
            key = {"before": pages[-1].first} if backward else {"after": pages[-1].last}
        return pages

    async def await_messages(self, jid, bodies):
        """These must come next, each one once, and nothing else."""
        await self.until(f"{len(bodies)} messages from {jid}", lambda: len(self.messages) >= len(bodies),
                         lambda: self.messages)
        got, self.messages = [(message.sender, message.body) for message in self.messages], []
        same(f"what {self.name} has received", got, [(jid, body) for body in bodies])

    async def await_copy(self, direction, sender, body):
        await self.until(f"a copy of {body!r}", lambda: self.copies, lambda: (self.copies, self.messages))
        same(f"the copy that {self.name} has received", self.copies.pop(0), Copy(direction, sender, body))

    async def nothing_more(self):
        """Nothing has come that no step has taken."""
        await self.ping()
        same(f"what else {self.name} has received", (self.messages, self.copies), ([], []))


async def archive(romeo, juliet):
    """XEP-0313 §4, XEP-0059 §2: pages from the oldest on and from the newest back"""
    bodies = [f"letter {n}" for n in range(MANY)]
    for body in bodies:
        await romeo.send(juliet.jid, body)
    await juliet.await_messages(romeo.jid, bodies)
    # All of it, and what is with one peer. Romeo's node has kept the messages before it answers; that of juliet may show
    # them a moment earlier than they are kept.
    for reader, peer in ((romeo, None), (juliet, romeo.jid)):
        forward, backward = await reader.pages(peer, False), await reader.pages(peer, True)
        for pages, want in ((forward, (bodies[:50], bodies[50:100], bodies[100:])),
                            (backward, (bodies[70:], bodies[20:70], bodies[:20]))):
            same("the pages", [page.bodies for page in pages], list(want))
            same("which page is the last", [page.complete for page in pages], [False, False, True])
            for page in pages:
                if peer is None or page.count is not None:  # XEP-0059 §2.6: a server need not tell
                    same("how many there are", page.count, MANY)
                same("first and last of the page", (page.first, page.last), (page.ids[0], page.ids[-1]))
        ids = [id for page in forward for id in page.ids]
        same("the ids backward", [id for page in reversed(backward) for id in page.ids], ids)
        same("different ids", len(set(ids)), MANY)


async def resumption(romeo, juliet, wire):
    """XEP-0198 §5"""
    await romeo.send(juliet.jid, "are you there?")
    await juliet.await_messages(romeo.jid, ["are you there?"])
    romeo.online.clear()
    wire.deaf = True
    answers = [f"answer {n}" for n in range(3)]
    for body in answers:
        await juliet.send(romeo.jid, body)
    for body in ("lost on the way", "and this"):
        await romeo.send(juliet.jid, body)
    await juliet.await_messages(romeo.jid, ["lost on the way", "and this"])
    wire.cut()
    meanwhile = [f"meanwhile {n}" for n in range(10)]
    for body in meanwhile:
        await romeo.send(juliet.jid, body)
    await romeo.ping()
    if not await juliet.resume():
        raise Missed(f"the stream of {juliet.name} was not resumed; last traffic: {juliet.tail()}")
    await juliet.await_messages(romeo.jid, meanwhile)
    await romeo.await_messages(juliet.jid, answers)
    for client in (romeo, juliet):
        await client.nothing_more()
    same("presence that romeo has heard of", romeo.online, set())  # juliet was never away


async def carbons(romeo, juliet, other, full):
    """XEP-0280 §6, §7: full is the address of juliet's first client."""
    await log_in(other)
    await other.ping()
    other.messages.clear()  # which a client may have read in the archive
    for client in (juliet, other):
        await client.carbons_on()
    await romeo.send(full, "for one of you")
    await juliet.await_messages(romeo.jid, ["for one of you"])
    await other.await_copy("received", romeo.jid, "for one of you")
    await juliet.send(romeo.jid, "from one of us")
    await romeo.await_messages(juliet.jid, ["from one of us"])
    await other.await_copy("sent", juliet.jid, "from one of us")
    await romeo.send(juliet.jid, "for both of you")
    for client in (juliet, other):
        await client.await_messages(romeo.jid, ["for both of you"])
    for client in (romeo, juliet, other):
        await client.nothing_more()


async def keep_messages(romeo, juliet, other, wire):
    for client in (romeo, juliet):
        await client.register()
        await log_in(client)
    await befriend(romeo, juliet)
    full = next(entity for entity in romeo.online if entity.startswith(juliet.jid))
    await archive(romeo, juliet)
    await resumption(romeo, juliet, wire)
    await carbons(romeo, juliet, other, full)
    for client in (romeo, juliet, other):
        await client.logout()
