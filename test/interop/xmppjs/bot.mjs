// The JavaScript library @xmpp/client, driven by lines of JSON: a request
// {"id", "op", …} on standard input is answered by {"id", "value"} or {"id", "error"}
// on standard output, where {"event", …} tells what came from the server.
import readline from "node:readline";
import { client, xml } from "@xmpp/client";

const say = (line) => process.stdout.write(JSON.stringify(line) + "\n");
const bare = (jid) => jid.split("/")[0];

let xmpp = null;
let mechanism = null;

function onSend(element) {
  if (element.is("auth") || element.is("authenticate")) mechanism = element.attrs.mechanism;
  say({ event: "trace", line: `> ${element}` });
}

function onStanza(stanza) {
  const { from, type } = stanza.attrs;
  const body = stanza.getChildText("body");
  if (stanza.is("presence")) {
    say({ event: "presence", from, type: type ?? "available" });
  } else if (stanza.is("iq") && (type === "result" || type === "error")) {
    // XEP-0198 §4: every stanza counts, yet the library's counter does not see
    // the replies to its own requests, and would ask for all later stanzas again.
    xmpp.streamManagement.inbound += 1;
  } else if (stanza.is("message") && body && type !== "error") {
    const delayed = Boolean(stanza.getChild("delay", "urn:xmpp:delay"));
    say({ event: "message", from: bare(from), body, delayed });
  }
}

const items = (query) =>
  query.getChildren("item").map(({ attrs }) => [attrs.jid, attrs.subscription]);

// An element from [name, attributes, …children], where a child is an element or a text.
const build = (tree) =>
  typeof tree === "string" ? tree : xml(tree[0], tree[1], ...tree.slice(2).map(build));

const ops = {
  async login({ service, domain, username, password }) {
    mechanism = null;
    xmpp = client({ service, domain, username, password, resource: "xmppjs" });
    xmpp.reconnect.stop(); // a lost connection must be seen, not mended
    xmpp.on("send", onSend);
    xmpp.on("element", (element) => say({ event: "trace", line: `< ${element}` }));
    xmpp.on("stanza", onStanza);
    xmpp.on("error", (err) => say({ event: "trace", line: `! ${err}` }));
    xmpp.iqCallee.set("jabber:iq:roster", "query", ({ element }) => {
      say({ event: "roster", items: items(element) });
      return true;
    });
    try {
      await xmpp.start();
    } catch (err) {
      await xmpp.stop().catch(() => {});
      throw err;
    }
    const roster = await xmpp.iqCaller.get(xml("query", { xmlns: "jabber:iq:roster" }));
    say({ event: "roster", items: items(roster) });
    await xmpp.send(xml("presence"));
    return mechanism;
  },
  async logout() {
    await xmpp.send(xml("presence", { type: "unavailable" }));
    await xmpp.stop();
  },
  async ping({ to }) {
    await xmpp.iqCaller.get(xml("ping", { xmlns: "urn:xmpp:ping" }), to);
  },
  async features({ to }) {
    const query = xml("query", { xmlns: "http://jabber.org/protocol/disco#info" });
    const info = await xmpp.iqCaller.get(query, to);
    return info.getChildren("feature").map(({ attrs }) => attrs.var);
  },
  async presence({ to, type }) {
    await xmpp.send(xml("presence", { to, type }));
  },
  async message({ to, body }) {
    await xmpp.send(xml("message", { to, type: "chat" }, xml("body", {}, body)));
  },
  async send({ stanza }) {
    await xmpp.send(build(stanza));
  },
  async iq({ to, type, payload }) {
    return String(await xmpp.iqCaller.request(xml("iq", { to, type }, build(payload))));
  },
  async answer({ space, name, payload }) {
    xmpp.iqCallee.get(space, name, () => build(payload));
  },
};

for await (const line of readline.createInterface({ input: process.stdin })) {
  const { id, op, ...args } = JSON.parse(line);
  ops[op](args).then(
    (value) => say({ id, value }),
    (err) => say({ id, error: { name: err.name, condition: err.condition, text: String(err) } }),
  );
}
process.exit(0); // the end of standard input ends everything
