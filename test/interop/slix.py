"""The Python library slixmpp as a client under test."""

import asyncio
import logging
import pathlib
import ssl

import slixmpp
from slixmpp.exceptions import IqError, IqTimeout

from client import DEADLINE, Client, Message, Missed, Refused

logging.getLogger("slixmpp").setLevel(logging.CRITICAL)  # the trace has what matters


class Slix(Client):
    kind = "slixmpp"
    resource = "slix"
    # Python's ssl has no tls-exporter, so no -PLUS under TLS 1.3.
    strong = ("SCRAM-SHA-512-PLUS", "SCRAM-SHA-256-PLUS", "SCRAM-SHA-512", "SCRAM-SHA-256")

    plugins = ("xep_0030", "xep_0199", "xep_0203")
    plugin_config = {}

    xmpp = None

    def __init__(self, *args):
        super().__init__(*args)
        self.used = []  # one library object for each connection

    async def register(self):
        """XEP-0077 before authentication, then a login on the same stream."""
        await self._connect(self.password, register=True)
        await self.logout()

    async def login(self, password=None):
        await self._connect(password or self.password)
        await self._settled("the roster", self.xmpp.get_roster(timeout=DEADLINE))
        self.xmpp.send_presence()

    async def _connect(self, password, register=False):
        self.forget()
        # A wrong password is tried with one mechanism only: the library would
        # go through all of them, and the server counts every failure.
        self.xmpp = xmpp = slixmpp.ClientXMPP(
            f"{self.jid}/{self.resource}", password,
            sasl_mech=None if password == self.password else "SCRAM-SHA-256")
        self.used.append(xmpp)
        outcome = asyncio.get_running_loop().create_future()
        xmpp.ca_certs = pathlib.Path(self.server.ca)
        xmpp.enable_direct_tls = self.tls == "direct"
        xmpp.enable_starttls = self.tls == "starttls"
        xmpp.auto_authorize, xmpp.auto_subscribe = None, False
        for plugin in self.plugins:
            xmpp.register_plugin(plugin, self.plugin_config.get(plugin))
        if register:
            xmpp.register_plugin("xep_0077")
            xmpp.add_event_handler("register", self._fill_form)
        self._listen(outcome)
        xmpp.connect(*self.server.address(self.tls))
        await self._settled("to be logged in", outcome)
        self.mechanism = xmpp["feature_mechanisms"].mech.name
        if not isinstance(xmpp.socket, (ssl.SSLSocket, ssl.SSLObject)):
            raise Missed(f"slixmpp {self.name} is logged in without TLS")

    async def _settled(self, what, future):
        try:
            return await asyncio.wait_for(future, DEADLINE)
        except asyncio.TimeoutError:
            raise Missed(f"slixmpp {self.name} awaited {what} for {DEADLINE:.0f} s; "
                         f"last traffic: {self.tail()}") from None
        except (IqError, IqTimeout) as err:
            raise Missed(f"slixmpp {self.name} awaited {what}; there was {err!r}") from err

    def _listen(self, outcome):
        """Settles outcome when the login has ended, in whatever way."""
        def settle(err=None):
            if outcome.done():
                return
            if err is None:
                outcome.set_result(None)
            else:
                outcome.set_exception(err)

        def fault(err):
            self.log(f"! {err!r}")
            settle(Missed(f"slixmpp {self.name}: {err!r}"))

        xmpp, on = self.xmpp, self.xmpp.add_event_handler
        xmpp.exception = fault  # of a handler
        xmpp.add_filter("in", lambda st: self.log(f"< {st}") or st)
        xmpp.add_filter("out", lambda st: self.log(f"> {st}") or st)
        on("session_start", lambda _: settle())
        on("failed_auth", lambda st: settle(Refused(st["condition"])))
        on("connection_failed", lambda err: settle(Missed(f"slixmpp could not connect: {err}")))
        on("disconnected", lambda why: settle(Missed(
            f"slixmpp {self.name} was disconnected ({why}); last traffic: {self.tail()}")))
        on("message", self._on_message)
        on("roster_update", self._on_roster)
        on("presence_subscribe", lambda st: self.requests.add(st["from"].bare) or self.changed())
        on("presence_unavailable", lambda st: self.lost(st["from"].full))
        for show in ("available", "chat", "away", "xa", "dnd"):
            on(f"presence_{show}", lambda st: self.saw(st["from"].full))

    async def _fill_form(self, form):
        fields = form["register"]["fields"]
        if not {"username", "password"} <= set(fields):
            raise Missed(f"the registration form asks for {fields}, not for username and password")
        answer = self.xmpp.Iq()
        answer["type"] = "set"
        answer["register"]["username"] = self.name
        answer["register"]["password"] = self.password
        await answer.send(timeout=DEADLINE)

    def _on_message(self, stanza):
        if stanza["body"] and stanza["type"] != "error":
            delayed = bool(stanza["delay"]["stamp"])
            self.messages.append(Message(stanza["from"].bare, stanza["body"], delayed))
            self.changed()

    def _on_roster(self, stanza):
        for jid, item in stanza["roster"]["items"].items():
            self.roster[jid.bare] = item["subscription"]
        self.changed()

    async def ping(self):
        await self._settled("a pong", self.xmpp["xep_0199"].send_ping(
            self.server.domain, timeout=DEADLINE))

    async def features(self):
        info = await self._settled("disco#info of the server", self.xmpp["xep_0030"].get_info(
            jid=self.server.domain, timeout=DEADLINE))
        return set(info["disco_info"]["features"])

    async def subscribe(self, jid):
        self.xmpp.send_presence_subscription(pto=jid, ptype="subscribe")

    async def approve(self, jid):
        self.xmpp.send_presence_subscription(pto=jid, ptype="subscribed")

    async def send(self, jid, body):
        self.xmpp.send_message(mto=jid, mbody=body, mtype="chat")

    async def logout(self):
        gone = self.xmpp.wait_until("disconnected", DEADLINE)
        self.xmpp.disconnect(wait=2 * DEADLINE)  # RFC 6120 §4.4: the server closes its stream, too
        await self._settled("the end of the stream", gone)

    async def close(self):
        for xmpp in self.used:
            xmpp.abort()
            task = xmpp._run_out_filters  # the library leaves it running
            if task is not None:
                task.cancel()
                await asyncio.wait([task])
