"""The terminal client profanity as a client under test: typed to and read
through a private tmux, the way a person uses it. What a screen does not tell
(mechanism, delay stamp, condition of a refusal) comes from its debug log."""

import asyncio
import os
import re
import time
import xml.etree.ElementTree as ET

from client import DEADLINE, Client, Message, Missed, Refused

SETTINGS = """[ui]
splash=false
roster=false
history=false
inpblock=20
inpblock.dynamic=false
[logging]
chlog=false
[connection]
autoping=0
reconnect=0
"""
TLS_POLICY = {"starttls": "force", "direct": "legacy"}
DELAY = "{urn:xmpp:delay}delay"
POLL = 0.1  # seconds between two looks at the screen


class Profanity(Client):
    kind = "profanity"
    strong = ("SCRAM-SHA-512-PLUS", "SCRAM-SHA-256-PLUS", "SCRAM-SHA-512", "SCRAM-SHA-256")

    def __init__(self, *args):
        super().__init__(*args)
        self.home = self.server.folder / self.name
        (self.home / "config" / "profanity").mkdir(parents=True)
        (self.home / "config" / "profanity" / "profrc").write_text(SETTINGS)
        self.processes = 0
        self.screen = ""
        self.read = {}  # bare JID: number of messages that a step has taken

    # The process and its screen.

    async def _tmux(self, *args):
        process = await asyncio.create_subprocess_exec(
            "tmux", "-u", "-S", self.home / f"tmux{self.processes}", "-f", "/dev/null", *args, env=self._environment(),
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE)
        out, err = await asyncio.wait_for(process.communicate(), DEADLINE)
        return process.returncode, out.decode(errors="replace"), err.decode(errors="replace")

    def _environment(self):
        return {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "TERM": "xterm-256color",
                "HOME": str(self.home), "XDG_CONFIG_HOME": str(self.home / "config"),
                "XDG_DATA_HOME": str(self.home / "data"),
                "SSL_CERT_FILE": str(self.server.ca)}  # the only authority it trusts

    async def _start(self):
        """A new process for each login: after /register a process takes its next
        connection for the old one."""
        self.forget()
        self.read, self.screen = {}, ""
        self.processes += 1
        # So many lines that nothing scrolls away during a story.
        code, _, err = await self._tmux("new-session", "-d", "-x", "200", "-y", "300", "profanity",
                                        "-l", "DEBUG", "-f", str(self._log_file()))
        if code != 0:
            raise Missed(f"profanity {self.name}: tmux ended with {code}: {err}")
        await self._shown("its first screen", r"Profanity\. Type /help")

    def _log_file(self):
        return self.home / f"log{self.processes}"

    def _log_text(self):
        try:
            return self._log_file().read_text(errors="replace")
        except FileNotFoundError:
            return ""

    async def _look(self):
        _, screen, _ = await self._tmux("capture-pane", "-p")
        screen = "\n".join(line.rstrip() for line in screen.splitlines() if line.strip())
        if screen != self.screen:
            self.screen = screen
            self.log(f"screen:\n{screen}")
        return screen

    async def _type(self, text):
        self.log(f"typed: {text}")
        await self._tmux("send-keys", "-l", "--", text)
        await self._tmux("send-keys", "Enter")

    async def _shown(self, what, pattern, times=1, again=None):
        """Waits until pattern is on the screen so many times and returns that
        match; again is typed once a second meanwhile."""
        end, typed = time.monotonic() + DEADLINE, time.monotonic()
        while True:
            found = list(re.finditer(pattern, await self._look(), re.MULTILINE))
            if len(found) >= times:
                return found[times - 1]
            if time.monotonic() > end:
                raise Missed(f"profanity {self.name} awaited {what} for {DEADLINE:.0f} s; "
                             f"it shows:{self.tail()}")
            if again and time.monotonic() - typed > 1:
                await self._type(again)
                typed = time.monotonic()
            await asyncio.sleep(POLL)

    def tail(self, lines=20):
        return "".join(f"\n    {line}" for line in self.screen.splitlines()[-lines:])

    async def _console(self):
        await self._type("/win console")
        await self._shown("the console", r"\A Profanity\. Type /help")

    async def _chat(self, jid):
        await self._type(f"/msg {jid}")
        await self._shown(f"the window of {jid}", rf"\A {re.escape(jid)} \[")

    # The steps.

    async def register(self):
        """Always by STARTTLS: the client's registration forgets "tls legacy"."""
        await self._start()
        _, port = self.server.address("starttls")
        await self._type(f"/register {self.name} {self.server.domain} port {port} tls force")
        for prompt in ("Enter password:", "Confirm password:"):
            await self._shown(prompt, prompt)
            await self._type(self.password)
        await self._shown("the end of the registration", r"Registration successful\.")
        await self._quit()

    async def login(self, password=None):
        await self._start()
        _, port = self.server.address(self.tls)
        await self._type(f"/connect {self.jid} server {self.server.domain} port {port} "
                         f"tls {TLS_POLICY[self.tls]}")
        await self._shown("the password prompt", "Enter password:")
        await self._type(password or self.password)
        told = await self._shown("to be logged in", r"logged in successfully|Login failed")
        log = self._log_text()
        if told.group() == "Login failed":
            # The library tries its other mechanisms by itself.
            conditions = set(re.findall(r"RECV: <failure[^>]*>.*?<([a-z-]+)[ />]", log))
            await self._quit()
            raise Refused(", ".join(conditions))
        await self._shown("TLS in its title", r"\A.*\[TLS\]")
        if "Certificate verification passed" not in log:
            raise Missed(f"profanity {self.name} has not verified the certificate")
        self.mechanism = re.findall(r'SENT: <auth [^>]*mechanism="([^"]+)"', log)[-1]

    async def logout(self):
        await self._acknowledged()
        await self._quit()

    async def _acknowledged(self):
        """Waits until the server has asked how much has come (XEP-0198 §4): the client does not tell when it leaves, and
        would get the same messages again."""
        end = time.monotonic() + DEADLINE
        while (log := self._log_text()).rfind("RECV: <message ") > log.rfind("SENT: <a "):
            if time.monotonic() > end:
                raise Missed(f"profanity {self.name} was not asked for an acknowledgement within {DEADLINE:.0f} s")
            await asyncio.sleep(POLL)

    async def _quit(self):
        await self._type("/quit")
        end = time.monotonic() + DEADLINE
        while (await self._tmux("has-session"))[0] == 0:
            if time.monotonic() > end:
                raise Missed(f"profanity {self.name} did not quit within {DEADLINE:.0f} s")
            await asyncio.sleep(POLL)

    async def close(self):
        await self._tmux("kill-server")
        for line in self._log_text().splitlines():
            if "SENT: " in line or "RECV: " in line:
                self.log(line)

    async def ping(self):
        await self._console()
        pong = "Ping response from server"
        before = (await self._look()).count(pong)
        await self._type("/ping")
        # It refuses to ping until it has heard what the server supports.
        await self._shown("a pong", pong, times=before + 1, again="/ping")

    async def features(self):
        await self._console()
        await self._type("/disco info")
        await self._shown("the server's features", 
                          r" {3}Features:\n(?:.*\n)*.* http://jabber\.org/protocol/disco#info")
        return set((await self._look()).split("Features:")[1].split())

    async def subscribe(self, jid):
        await self._type(f"/sub request {jid}")

    async def approve(self, jid):
        await self._type(f"/sub allow {jid}")

    async def await_request(self, jid):
        await self._console()
        await self._shown(f"a request from {jid}", f"Received authorization request from {re.escape(jid)}")

    async def await_subscription(self, jid, want):
        await self._console()
        await self._type("/roster")
        await self._shown(f"{jid} with {want!r} in the roster", rf"  {re.escape(jid)}( \(.*\))? - {want}$",
                          again="/roster")

    async def await_presence(self, jid, available):
        await self._chat(jid)
        state = "online" if available else "offline"
        await self._shown(f"{jid} to be {state}", rf"\A {re.escape(jid)} \[{state}\]")

    async def send(self, jid, body):
        await self._chat(jid)
        await self._type(body)
        await self._shown(f"its own message {body!r}", rf"- me: {re.escape(body)}$")

    async def await_message(self, jid, body, delayed):
        await self._chat(jid)
        number = self.read[jid] = self.read.get(jid, 0) + 1
        told = await self._shown(f"message {number} of {jid}: {body!r}",
                                 rf" - {re.escape(jid)}(?:/\S+)?: (.*)$", times=number)
        got = Message(jid, told.group(1), self._delays(jid)[number - 1])
        want = Message(jid, body, delayed)
        if got != want:
            raise Missed(f"profanity {self.name} awaited {want}; it shows {got}")

    def _delays(self, jid):
        """For each message with a body that came from jid: was it stamped?"""
        came = []
        for text in re.findall(r"RECV: (<message .*)", self._log_text()):
            stanza = ET.fromstring(text)
            body = [part for part in stanza if part.tag.split("}")[-1] == "body"]
            if body and stanza.get("from", "").split("/")[0] == jid:
                came.append(stanza.find(DELAY) is not None)
        return came
