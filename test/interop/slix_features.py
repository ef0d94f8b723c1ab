"""slixmpp on the tour of features, by its plugins."""

import asyncio

from slixmpp.exceptions import IqError, IqTimeout
from slixmpp.xmlstream import ElementBase

from client import DEADLINE, Missed, Refused
from features import NODE_ADD, Features
from slix import Slix


class Note(ElementBase):
    """What the tour keeps in private storage."""

    name, namespace, plugin_attrib = "note", "urn:example:note", "note"
    interfaces = {"text"}

    def get_text(self):
        return self.xml.text or ""

    def set_text(self, value):
        self.xml.text = value


class SlixFeatures(Slix, Features):
    plugins = (*Slix.plugins, "xep_0012", "xep_0049", "xep_0050", "xep_0054", "xep_0055", "xep_0077", "xep_0092",
               "xep_0115", "xep_0133", "xep_0153", "xep_0191", "xep_0202")
    # Else the library takes the answers to its searches for questions.
    plugin_config = {"xep_0055": {"provide_search": False}}

    def _listen(self, outcome):
        super()._listen(outcome)
        on = self.xmpp.add_event_handler
        on("roster_update", self._on_push)
        on("vcard_avatar_update", self._on_picture)
        on("message_error", self._on_bounce)
        on("stream_error", self._on_stream_error)

    def _on_push(self, stanza):
        if stanza["type"] == "set":
            self.pushed = stanza["roster"]["ver"]
            self.changed()

    def _on_picture(self, stanza):
        self.pictures[stanza["from"].bare] = stanza["vcard_temp_update"]["photo"]
        self.changed()

    def _on_bounce(self, stanza):
        self.bounces.append((stanza["from"].bare, stanza["error"]["condition"]))
        self.changed()

    def _on_stream_error(self, error):
        self.ended = error["condition"]
        self.changed()

    async def _ask(self, what, future):
        """Waits for the answer to a request."""
        try:
            return await asyncio.wait_for(future, DEADLINE)
        except IqError as err:
            raise Refused(err.condition) from err
        except (IqTimeout, asyncio.TimeoutError):
            raise Missed(f"slixmpp {self.name} awaited {what} for {DEADLINE:.0f} s; "
                         f"last traffic: {self.tail()}") from None

    async def software(self):
        got = await self._ask("the version", self.xmpp["xep_0092"].get_version(self.server.domain))
        return got["software_version"]["name"], got["software_version"]["version"]

    async def clock(self):
        got = await self._ask("the time", self.xmpp["xep_0202"].get_entity_time(self.server.domain))
        # The library's own reading adds a second Z.
        return got["entity_time"]._get_sub_text("utc")

    async def last(self, jid):
        got = await self._ask(f"last activity of {jid}", self.xmpp["xep_0012"].get_last_activity(jid))
        return got["last_activity"]["seconds"]

    async def announce(self):
        await self._ask("its own capabilities", self.xmpp["xep_0115"].update_caps(broadcast=False))
        self.xmpp.send_presence()

    async def verified_caps(self, entity):
        """The library keeps a hash only when it fits the answer to disco#info."""
        async def kept():
            while not await self.xmpp["xep_0115"].get_verstring(entity):
                await asyncio.sleep(0.05)
        await self._ask(f"capabilities of {entity} that fit their hash", kept())

    async def roster_since(self, version):
        iq = self.xmpp.make_iq_get()
        iq["roster"]["ver"] = version
        got = await self._ask("the roster", iq.send())
        if got.xml.find("{jabber:iq:roster}query") is None:
            return None
        return got["roster"]["ver"], {jid.bare: item["name"] for jid, item in got["roster"]["items"].items()}

    async def rename(self, jid, name):
        await self._ask(f"the new name of {jid}", self.xmpp.update_roster(jid, name=name))

    async def put_card(self, name, nickname):
        card = self.xmpp["xep_0054"].make_vcard()
        card["FN"] = name
        card["NICKNAME"] = nickname
        await self._ask("its vCard to be kept", self.xmpp["xep_0054"].publish_vcard(card))

    async def put_picture(self, picture):
        await self._ask("its picture to be kept", self.xmpp["xep_0153"].set_avatar(
            avatar=picture, mtype="image/png"))

    async def card(self, jid):
        got = await self._ask(f"the vCard of {jid}", self.xmpp["xep_0054"].get_vcard(jid))
        return got["vcard_temp"]["FN"], got["vcard_temp"]["PHOTO"]["BINVAL"] or b""

    async def keep(self, text):
        self.xmpp["xep_0049"].register(Note)
        note = Note()
        note["text"] = text
        await self._ask("private data to be kept", self.xmpp["xep_0049"].store(note))

    async def kept(self):
        self.xmpp["xep_0049"].register(Note)
        got = await self._ask("private data", self.xmpp["xep_0049"].retrieve("note"))
        return got["private"]["note"]["text"]

    async def block(self, jid):
        await self._ask(f"{jid} to be blocked", self.xmpp["xep_0191"].block(jid))

    async def unblock(self, jid):
        await self._ask(f"{jid} to be unblocked", self.xmpp["xep_0191"].unblock(jid))

    async def blocked(self):
        jids = await self._ask("the block list", self.xmpp["xep_0191"].get_blocked_jids())
        return {str(jid) for jid in jids}

    async def search(self, nickname):
        iq = self.xmpp["xep_0055"].make_search_iq(ito=self.server.domain)
        iq["search"]["form"].add_field("nick", value=nickname)
        got = await self._ask("who is found", iq.send())
        return {item["jid"] for item in got["search"]["form"]["items"]}

    async def commands(self):
        got = await self._ask("the commands", self.xmpp["xep_0133"].get_commands(self.server.domain))
        return {node for _, node, _ in got["disco_items"]["items"]}

    async def add_user(self, jid, password):
        command = self.xmpp["xep_0050"]
        got = await self._ask("the form of the command", command.send_command(self.server.domain, NODE_ADD))
        fields = got["command"]["form"].get_fields()
        if not {"accountjid", "password"} <= set(fields):
            raise Missed(f"the form of {NODE_ADD} asks for {list(fields)}")
        form = self.xmpp["xep_0004"].make_form(ftype="submit")
        form.add_field("FORM_TYPE", "hidden", value="http://jabber.org/protocol/admin")
        form.add_field("accountjid", value=jid)
        form.add_field("password", value=password)
        form.add_field("password-verify", value=password)
        got = await self._ask("the end of the command", command.send_command(
            self.server.domain, NODE_ADD, action="complete", payload=form, sessionid=got["command"]["sessionid"]))
        return got["command"]["status"]

    async def change_password(self, password):
        await self._ask("a new password", self.xmpp["xep_0077"].change_password(password))

    async def remove_account(self):
        await self._ask("the end of the account", self.xmpp["xep_0077"].cancel_registration())
