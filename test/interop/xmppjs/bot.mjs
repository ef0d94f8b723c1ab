// The JavaScript library @xmpp/client, driven by lines of JSON: a request
// {"id", "op", …} on standard input is answered by {"id", "value"} or {"id", "error"}
// on standard output, where {"event", …} tells what came from the server.
import readline from "node:readline";
import { client, xml } from "@xmpp/client";
import { promise } from "@xmpp/events";

const say = (line) => process.stdout.write(JSON.stringify(line) + "\n");
const bare = (jid) => jid.split("/")[0];

let xmpp = null;
let mechanism = null;

const NS_MAM = "urn:xmpp:mam:2";
const archived = new Set(); // ids of the messages that came, in the archive of the account
let newest = null; // of them

// Tells whether a message has not come before, by its id in the account's archive.
function isNew(id) {
  if (id === undefined) return true;
  if (archived.has(id)) return false;
  archived.add((newest = id));
  return true;
}

// Reads what came while the client was away: who binds with the log-in gets it from the archive only (XEP-0386 §3.2),
// which the library leaves to its user.
async function catchUp() {
  const results = [];
  const onResult = (stanza) => {
    const result = stanza.getChild("result", NS_MAM);
    if (result) results.push(result);
  };
  xmpp.on("stanza", onResult);
  const set = xml("set", { xmlns: "http://jabber.org/protocol/rsm" }, newest ? xml("after", {}, newest) : null);
  await xmpp.iqCaller.set(xml("query", { xmlns: NS_MAM }, set));
  xmpp.removeListener("stanza", onResult);
  for (const result of results) {
    const message = result.getChild("forwarded", "urn:xmpp:forward:0").getChild("message");
    const from = bare(message.attrs.from);
    const body = message.getChildText("body");
    if (isNew(result.attrs.id) && body && from !== bare(String(xmpp.jid)))
      say({ event: "message", from, body, delayed: true });
  }
}

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
    const own = stanza.getChildren("stanza-id").find(({ attrs }) => attrs.by === bare(String(xmpp.jid)));
    if (isNew(own?.attrs.id)) say({ event: "message", from: bare(from), body, delayed });
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
    let metadata; // of the archive
    xmpp = client({ service, domain, username, password, resource: "xmppjs" });
    xmpp.reconnect.stop(); // a lost connection must be seen, not mended
    xmpp.on("send", onSend);
    xmpp.on("element", (element) => {
      say({ event: "trace", line: `< ${element}` });
      metadata ??= element.getChild("bound", "urn:xmpp:bind:0")?.getChild("metadata", NS_MAM);
    });
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
    if (metadata) await catchUp();
    await xmpp.send(xml("presence"));
    return mechanism;
  },
  // Loses the connection, as when a phone leaves the network.
  async cut() {
    const gone = new Promise((resolve) => xmpp.once("disconnect", resolve));
    (xmpp.socket.socket ?? xmpp.socket).destroy();
    await gone;
  },
  // Comes back as the library does by itself: with its token, and the session if that is still there.
  async back() {
    mechanism = null;
    const back = new Promise((resolve) => {
      xmpp.streamManagement.once("resumed", () => resolve(true));
      xmpp.once("online", () => resolve(false));
    });
    await xmpp.reconnect.reconnect();
    return { resumed: await back, mechanism, jid: String(xmpp.jid) };
  },
  // The end of a connection that somebody else cuts.
  async lost() {
    if (xmpp.status !== "disconnect") await promise(xmpp, "disconnect");
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
