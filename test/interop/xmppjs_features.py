"""@xmpp/client on the tour of features. The library has none of them, so it sends
requests that are written here, and answers one, about its capabilities."""

import base64
import hashlib
import xml.etree.ElementTree as ET

from client import Missed
from features import NODE_ADD, Features
from xmppjs import XmppJS

ADMIN = "http://jabber.org/protocol/admin"
BLOCKING = "urn:xmpp:blocking"
CAPS = "http://jabber.org/protocol/caps"
CARD = "vcard-temp"
CLIENT = "jabber:client"
COMMANDS = "http://jabber.org/protocol/commands"
DATA = "jabber:x:data"
INFO = "http://jabber.org/protocol/disco#info"
ITEMS = "http://jabber.org/protocol/disco#items"
LAST = "jabber:iq:last"
NOTE = "urn:example:note"
PRIVATE = "jabber:iq:private"
REGISTER = "jabber:iq:register"
ROSTER = "jabber:iq:roster"
SEARCH = "jabber:iq:search"
STANZAS = "urn:ietf:params:xml:ns:xmpp-stanzas"
STREAM = "http://etherx.jabber.org/streams"
STREAMS = "urn:ietf:params:xml:ns:xmpp-streams"
TIME = "urn:xmpp:time"
UPDATE = "vcard-temp:x:update"
VERSION = "jabber:iq:version"

NODE = "https://github.com/xmppjs/xmpp.js"
OWN_INFO = [["identity", {"category": "client", "type": "bot", "name": "xmpp.js"}],
            ["feature", {"var": INFO}], ["feature", {"var": CAPS}]]


def parse(text):
    """An element as the library prints it, which leaves out what the stream declares."""
    return ET.fromstring(f'<top xmlns="{CLIENT}" xmlns:stream="{STREAM}">{text}</top>')[0]


def form(space, **fields):
    return ["x", {"xmlns": DATA, "type": "submit"}, ["field", {"var": "FORM_TYPE"}, ["value", {}, space]],
            *(["field", {"var": name.replace("_", "-")}, ["value", {}, value]] for name, value in fields.items())]


def verification(info):
    """What stands for an answer to disco#info: XEP-0115 §5.1."""
    lang = "{http://www.w3.org/XML/1998/namespace}lang"
    parts = sorted("/".join(e.get(key, "") for key in ("category", "type", lang, "name"))
                   for e in info.iter(f"{{{INFO}}}identity"))
    parts += sorted(e.get("var") for e in info.iter(f"{{{INFO}}}feature"))
    forms = []
    for x in info.iter(f"{{{DATA}}}x"):
        fields = {e.get("var"): sorted(v.text or "" for v in e.iter(f"{{{DATA}}}value"))
                  for e in x.iter(f"{{{DATA}}}field")}
        kind = fields.pop("FORM_TYPE")
        forms.append(kind + [text for name in sorted(fields) for text in [name, *fields[name]]])
    parts += [text for x in sorted(forms) for text in x]
    return base64.b64encode(hashlib.sha1("".join(f"{part}<" for part in parts).encode()).digest()).decode()


class XmppJSFeatures(XmppJS, Features):
    def forget(self):
        super().forget()
        self.caps = {}  # full JID, or domain: (node, hash)

    def _on_trace(self, line):
        super()._on_trace(line)
        if line.startswith("< "):
            self._see(parse(line[2:]))
            self.changed()

    def _see(self, element):
        caps = element.find(f"{{{CAPS}}}c")
        sender = element.get("from", self.server.domain)
        if caps is not None:
            self.caps[sender] = caps.get("node"), caps.get("ver")
        match element.tag.split("}")[1]:
            case "presence":
                hash_ = element.find(f"{{{UPDATE}}}x/{{{UPDATE}}}photo")
                if hash_ is not None:
                    self.pictures[sender.split("/")[0]] = hash_.text or ""
            case "message" if element.get("type") == "error":
                error = element.find(f"{{{CLIENT}}}error")
                self.bounces.append((sender.split("/")[0], self._condition(error, STANZAS)))
            case "iq" if element.get("type") == "set":
                roster = element.find(f"{{{ROSTER}}}query")
                if roster is not None:
                    self.pushed = roster.get("ver")
            case "error":
                self.ended = self._condition(element, STREAMS)

    def _condition(self, error, space):
        return next((e.tag.split("}")[1] for e in error if e.tag.startswith(f"{{{space}}}")), None)

    async def _iq(self, kind, payload, to=None):
        """Returns the payload of the answer, or None."""
        reply = parse(await self._call("iq", type=kind, to=to, payload=payload))
        return next(iter(reply), None)

    async def _get(self, payload, to=None):
        got = await self._iq("get", payload, to)
        want = f"{{{payload[1]['xmlns']}}}{payload[0]}"
        if got is None or got.tag != want:
            raise Missed(f"xmpp.js {self.name} asked for {want}; last traffic: {self.tail()}")
        return got

    async def software(self):
        got = await self._get(["query", {"xmlns": VERSION}], self.server.domain)
        return got.findtext(f"{{{VERSION}}}name"), got.findtext(f"{{{VERSION}}}version")

    async def clock(self):
        got = await self._get(["time", {"xmlns": TIME}], self.server.domain)
        return got.findtext(f"{{{TIME}}}utc", "")

    async def last(self, jid):
        return int((await self._get(["query", {"xmlns": LAST}], jid)).get("seconds"))

    async def announce(self):
        own = ["query", {"xmlns": INFO}, *OWN_INFO]
        ver = verification(parse(f'<query xmlns="{INFO}">' + "".join(
            f"<{name} " + " ".join(f'{key}="{value}"' for key, value in attrs.items()) + "/>"
            for name, attrs in OWN_INFO) + "</query>"))
        own[1]["node"] = f"{NODE}#{ver}"
        await self._call("answer", space=INFO, name="query", payload=own)
        await self._call("send", stanza=["presence", {}, ["c", {
            "xmlns": CAPS, "hash": "sha-1", "node": NODE, "ver": ver}]])

    async def verified_caps(self, entity):
        await self.until(f"capabilities of {entity}", lambda: entity in self.caps, lambda: self.caps)
        node, ver = self.caps[entity]
        got = await self._get(["query", {"xmlns": INFO, "node": f"{node}#{ver}"}], entity)
        if verification(got) != ver:
            raise Missed(f"{entity} announces {ver}, but its answer has {verification(got)}: "
                         f"{ET.tostring(got, 'unicode')}")

    async def roster_since(self, version):
        got = await self._iq("get", ["query", {"xmlns": ROSTER, "ver": version}])
        if got is None:
            return None
        return got.get("ver"), {e.get("jid"): e.get("name", "") for e in got}

    async def rename(self, jid, name):
        await self._iq("set", ["query", {"xmlns": ROSTER}, ["item", {"jid": jid, "name": name}]])

    async def put_card(self, name, nickname):
        self.own_card = ["vCard", {"xmlns": CARD}, ["FN", {}, name], ["NICKNAME", {}, nickname]]
        await self._iq("set", self.own_card)

    async def put_picture(self, picture):
        photo = ["PHOTO", {}, ["TYPE", {}, "image/png"], ["BINVAL", {}, base64.encodebytes(picture).decode()]]
        await self._iq("set", [*self.own_card, photo])

    async def card(self, jid):
        got = await self._get(["vCard", {"xmlns": CARD}], jid)
        return got.findtext(f"{{{CARD}}}FN"), base64.b64decode(got.findtext(f"{{{CARD}}}PHOTO/{{{CARD}}}BINVAL", ""))

    async def keep(self, text):
        await self._iq("set", ["query", {"xmlns": PRIVATE}, ["note", {"xmlns": NOTE}, text]])

    async def kept(self):
        got = await self._get(["query", {"xmlns": PRIVATE}, ["note", {"xmlns": NOTE}]])
        return got.findtext(f"{{{NOTE}}}note")

    async def block(self, jid):
        await self._iq("set", ["block", {"xmlns": BLOCKING}, ["item", {"jid": jid}]])

    async def unblock(self, jid):
        await self._iq("set", ["unblock", {"xmlns": BLOCKING}, ["item", {"jid": jid}]])

    async def blocked(self):
        return {e.get("jid") for e in await self._get(["blocklist", {"xmlns": BLOCKING}])}

    async def search(self, nickname):
        """Without a form: XEP-0055 §2.1."""
        got = await self._iq("set", ["query", {"xmlns": SEARCH}, ["nick", {}, nickname]], self.server.domain)
        return {e.get("jid") for e in got}

    async def commands(self):
        got = await self._get(["query", {"xmlns": ITEMS, "node": COMMANDS}], self.server.domain)
        return {e.get("node") for e in got}

    async def add_user(self, jid, password):
        command = {"xmlns": COMMANDS, "node": NODE_ADD}
        got = await self._iq("set", ["command", command | {"action": "execute"}], self.server.domain)
        asked = {e.get("var") for e in got.iter(f"{{{DATA}}}field")}
        if not {"accountjid", "password"} <= asked:
            raise Missed(f"the form of {NODE_ADD} asks for {asked}")
        filled = form(ADMIN, accountjid=jid, password=password, password_verify=password)
        got = await self._iq("set", ["command", command | {"sessionid": got.get("sessionid"), "action": "complete"},
                                     filled], self.server.domain)
        return got.get("status")

    async def change_password(self, password):
        await self._iq("set", ["query", {"xmlns": REGISTER}, ["username", {}, self.name], ["password", {}, password]],
                       self.server.domain)

    async def remove_account(self):
        await self._iq("set", ["query", {"xmlns": REGISTER}, ["remove", {}]])
