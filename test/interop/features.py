"""A tour of what the server has besides the story: one step for each feature, which
two friends and an administrator take with the same library."""

import datetime
import hashlib

from client import DEADLINE, Client, Missed, Refused
from story import TRICKY, befriend, log_in

# A PNG of one pixel.
PICTURE = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c489"
    "0000000d49444154789c6360f8cfc000000301010018dd8db00000000049454e44ae426082")

NODE_ADD = "http://jabber.org/protocol/admin#add-user"  # XEP-0133 §4.1

EXPECTED = {
    "http://jabber.org/protocol/caps", "http://jabber.org/protocol/commands", "jabber:iq:last",
    "jabber:iq:private", "jabber:iq:register", "jabber:iq:version", "urn:xmpp:blocking",
    "urn:xmpp:time", "vcard-temp",
}


class Features(Client):
    """What a client must be able to do for the tour besides the story. A request that the
    server answers with an error raises Refused with its condition. Subclasses add:

    software() -> (name, version)          clock() -> what <utc/> says
    last(jid) -> seconds                   announce(): presence with own capabilities
    verified_caps(entity)                  roster_since(version) -> None or (version, names by JID)
    rename(jid, name)                      put_card(name, nickname), then put_picture(picture)
    card(jid) -> (name, picture)           keep(text) and kept() -> text
    block(jid), unblock(jid), blocked()    search(nickname) -> JIDs
    commands() -> nodes                    add_user(jid, password) -> status of the command
    change_password(password)              remove_account()
    """

    def forget(self):
        super().forget()
        self.pushed = None  # version of the last roster push
        self.pictures = {}  # bare JID: hash that its presence tells
        self.bounces = []  # (bare JID, condition) of messages that came back
        self.ended = None  # condition of the stream error

    async def await_push(self):
        await self.until("a roster push with a version", lambda: self.pushed, lambda: self.pushed)
        return self.pushed

    async def await_picture(self, jid, want):
        await self.until(f"presence of {jid} with the hash {want}", lambda: self.pictures.get(jid) == want,
                         lambda: self.pictures)

    async def await_bounce(self, jid, condition):
        await self.until(f"a message to {jid} to come back", lambda: self.bounces, lambda: self.messages)
        same(f"what came back to {self.name}", self.bounces.pop(0), (jid, condition))

    async def await_end(self, condition):
        await self.until(f"the end of the stream with {condition}", lambda: self.ended, lambda: self.ended)
        same("the stream error", self.ended, condition)


def same(what, got, want):
    if got != want:
        raise Missed(f"{what} is {got!r}, not {want!r}")


async def refused(what, condition, request):
    """The server must answer the request with this error."""
    try:
        got = await request
    except Refused as error:
        return same(f"the error of {what}", str(error), condition)
    raise Missed(f"{what} was answered with {got!r}, not with {condition}")


# The steps. romeo and juliet are friends from the step "friends" on.

async def software(romeo, juliet, admin):
    """XEP-0092"""
    name, version = await romeo.software()
    if name != "Starling" or not version:
        raise Missed(f"the software is {name!r} in version {version!r}")


async def clock(romeo, juliet, admin):
    """XEP-0202"""
    text = await romeo.clock()
    if not text.endswith("Z"):  # XEP-0202 §3: in UTC
        raise Missed(f"the server's time {text!r} is not in UTC")
    away = abs((datetime.datetime.fromisoformat(text) - datetime.datetime.now(datetime.timezone.utc)).total_seconds())
    if away > 300:
        raise Missed(f"the server's time {text!r} is {away:.0f} s away from that of this machine")


async def discovery(romeo, juliet, admin):
    """XEP-0030"""
    missing = EXPECTED - await romeo.features()
    if missing:
        raise Missed(f"disco#info of the server lacks {sorted(missing)}")


async def server_capabilities(romeo, juliet, admin):
    """XEP-0115 §6.3"""
    await romeo.verified_caps(romeo.server.domain)


async def strangers(romeo, juliet, admin):
    """XEP-0012 §3, XEP-0054 §3.3: what is not told"""
    await refused("last activity of a stranger", "forbidden", romeo.last(juliet.jid))
    await refused("the vCard of somebody who has none", "service-unavailable", romeo.card(juliet.jid))


async def friends(romeo, juliet, admin):
    await befriend(romeo, juliet)


async def roster_versions(romeo, juliet, admin):
    """RFC 6121 §2.6"""
    before, _ = await romeo.roster_since("")
    same(f"the roster since version {before!r}, its own", await romeo.roster_since(before), None)
    romeo.pushed = None
    await romeo.rename(juliet.jid, "Giulietta")
    pushed = await romeo.await_push()
    if pushed == before:
        raise Missed(f"the roster has version {before!r} before and after a change")
    now = await romeo.roster_since(before)
    same(f"the roster since version {before!r}", now, (pushed, {juliet.jid: "Giulietta"}))
    same(f"the roster since version {pushed!r}, its own", await romeo.roster_since(pushed), None)


async def capabilities(romeo, juliet, admin):
    """XEP-0115 §6.1, §6.2: from client to client"""
    await romeo.announce()
    await juliet.await_presence(romeo.jid, True)
    await juliet.verified_caps(next(full for full in juliet.online if full.split("/")[0] == romeo.jid))


async def last_activity(romeo, juliet, admin):
    """XEP-0012"""
    uptime = await romeo.last(romeo.server.domain)
    if uptime < 0:
        raise Missed(f"the server runs since {uptime} s")
    same("last activity of one who is there", await romeo.last(juliet.jid), 0)
    await juliet.logout()
    await romeo.await_presence(juliet.jid, False)
    away = await romeo.last(juliet.jid)
    if not 0 <= away <= DEADLINE:
        raise Missed(f"last activity of one who has just left is {away} s ago")
    await log_in(juliet)
    await romeo.await_presence(juliet.jid, True)


async def cards(romeo, juliet, admin):
    """XEP-0054"""
    await romeo.put_card("Romeo < Montague", romeo.name)
    same("the vCard", await juliet.card(romeo.jid), ("Romeo < Montague", b""))


async def pictures(romeo, juliet, admin):
    """XEP-0153, XEP-0398 §4"""
    await romeo.put_picture(PICTURE)
    same("the vCard with a picture", await juliet.card(romeo.jid), ("Romeo < Montague", PICTURE))
    await romeo.announce()
    await juliet.await_picture(romeo.jid, hashlib.sha1(PICTURE).hexdigest())


async def search(romeo, juliet, admin):
    """XEP-0055"""
    if "jabber:iq:search" not in await juliet.features():
        return  # off by default
    same("who is found", await juliet.search(romeo.name), {romeo.jid})
    same("who is found by a name of nobody", await juliet.search(romeo.name + "x"), set())


async def private_storage(romeo, juliet, admin):
    """XEP-0049"""
    same("the private element that was never kept", await romeo.kept(), "")
    await romeo.keep(TRICKY)
    same("the private element", await romeo.kept(), TRICKY)
    same("the private element of somebody else", await juliet.kept(), "")


async def blocking(romeo, juliet, admin):
    """XEP-0191 §3"""
    await romeo.block(juliet.jid)
    same("the block list", await romeo.blocked(), {juliet.jid})
    await juliet.await_presence(romeo.jid, False)
    await juliet.send(romeo.jid, "can you hear me?")
    await juliet.await_bounce(romeo.jid, "service-unavailable")
    await romeo.send(juliet.jid, "to one whom I have blocked")
    await romeo.await_bounce(juliet.jid, "not-acceptable")
    for client in (romeo, juliet):
        await client.ping()  # its answer comes after all that was on its way: RFC 6120 §10.1
        same(f"what {client.name} has received", client.messages, [])
    await romeo.unblock(juliet.jid)
    same("the block list", await romeo.blocked(), set())
    await juliet.await_presence(romeo.jid, True)
    await juliet.send(romeo.jid, "and now?")
    await romeo.await_message(juliet.jid, "and now?", delayed=False)


async def commands(romeo, juliet, admin):
    """XEP-0050, XEP-0133 §4.1"""
    nurse = type(romeo)(romeo.server, romeo.tls, "nurse" + romeo.name.removeprefix("romeo"), "nurse sesame")
    if NODE_ADD in await romeo.commands():
        raise Missed("commands for administrators are listed for everybody")
    await refused("adding a user without being an administrator", "forbidden",
                  romeo.add_user(nurse.jid, nurse.password))
    if admin is None:
        return
    listed = await admin.commands()
    if NODE_ADD not in listed:
        raise Missed(f"the administrator's commands {listed} lack {NODE_ADD}")
    same("the command's status", await admin.add_user(nurse.jid, nurse.password), "completed")
    try:
        await log_in(nurse)
        await nurse.logout()
    finally:
        romeo.trace += nurse.trace
        await nurse.close()


async def new_password(romeo, juliet, admin):
    """XEP-0077 §3.3"""
    old, romeo.password = romeo.password, "another sesame & more"
    await romeo.change_password(romeo.password)
    await romeo.logout()
    await refused("a login with the old password", "not-authorized", romeo.login(password=old))
    await log_in(romeo)
    await romeo.await_subscription(juliet.jid, "both")


async def removal(romeo, juliet, admin):
    """XEP-0077 §3.2"""
    await juliet.remove_account()
    await juliet.await_end("not-authorized")
    await romeo.await_presence(juliet.jid, False)
    await romeo.await_subscription(juliet.jid, "none")
    await refused("a login to the removed account", "not-authorized", juliet.login())


STEPS = (software, clock, discovery, server_capabilities, strangers, friends, roster_versions, capabilities,
         last_activity, cards, pictures, search, private_storage, blocking, commands, new_password, removal)


async def tour(romeo, juliet, admin):
    """Takes all steps, also after one that fails, since most do not build on each other."""
    for client in (romeo, juliet):
        await client.register()
        await log_in(client)
    if admin:
        await log_in(admin)
    failed = []
    for step in STEPS:
        name = step.__name__.replace("_", " ")
        try:
            await step(romeo, juliet, admin)
        except (Missed, Refused) as err:
            failed.append(f"{name}: {err if isinstance(err, Missed) else f'refused with {err}'}")
            print(f"  {romeo.kind}: {failed[-1]}", flush=True)
    if failed:
        raise Missed(f"{len(failed)} of {len(STEPS)} features (above)")
