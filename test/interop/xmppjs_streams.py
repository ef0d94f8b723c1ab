"""@xmpp/client with stream management, which it has, and archive and carbons, for which it sends requests that are
written here."""

from streams import PAGE, Copy, Page, Streams
from xmppjs import XmppJS
from xmppjs_features import CLIENT, DATA, parse

CARBONS = "urn:xmpp:carbons:2"
FORWARD = "urn:xmpp:forward:0"
MAM = "urn:xmpp:mam:2"
RSM = "http://jabber.org/protocol/rsm"


class XmppJSStreams(XmppJS, Streams):
    def forget(self):
        super().forget()
        self.results = []  # (query, id, body) of messages that came from the archive

    def _on_trace(self, line):
        super()._on_trace(line)
        if line.startswith("< <message "):
            self._see(parse(line[2:]))
            self.changed()

    def _see(self, stanza):
        for part in stanza:
            message = part.find(f"{{{FORWARD}}}forwarded/{{{CLIENT}}}message")
            if message is None:
                continue
            body = message.findtext(f"{{{CLIENT}}}body")
            space, name = part.tag[1:].split("}")
            if space == MAM:
                self.results.append((part.get("queryid"), part.get("id"), body))
            elif space == CARBONS:
                self.copies.append(Copy(name, message.get("from").split("/")[0], body))

    async def resume(self):
        await self._call("lost")
        return (await self.back())["resumed"]

    async def page(self, jid, **key):
        keys = [[name, {}, value] for name, value in key.items()]
        fields = [["field", {"var": name}, ["value", {}, value]]
                  for name, value in (("FORM_TYPE", MAM), ("with", jid)) if value]
        self.results = []
        answer = parse(await self._call("iq", type="set", to=None, payload=[
            "query", {"xmlns": MAM, "queryid": "page"}, ["x", {"xmlns": DATA, "type": "submit"}, *fields],
            ["set", {"xmlns": RSM}, ["max", {}, str(PAGE)], *keys]]))
        fin = answer.find(f"{{{MAM}}}fin")
        said = {name: fin.findtext(f"{{{RSM}}}set/{{{RSM}}}{name}") for name in ("first", "last", "count")}
        got = [(id, body) for query, id, body in self.results if query == "page"]
        return Page([id for id, _ in got], [body for _, body in got], said["first"], said["last"],
                    said["count"] and int(said["count"]), fin.get("complete") == "true")

    async def carbons_on(self):
        await self._call("iq", type="set", to=None, payload=["enable", {"xmlns": CARBONS}])
