"""The server under test: started for one scenario, or already running."""

import asyncio
import json
import pathlib
import re
import socket
import ssl

START = 30.0  # seconds until run.json must be there
STOP = 15.0  # seconds a stop may take


class ServerFailed(Exception):
    """The server did not start, did not stop, or complained in its log."""


async def command(*args):
    process = await asyncio.create_subprocess_exec(
        *args, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE)
    out, err = await asyncio.wait_for(process.communicate(), START)
    if process.returncode != 0:
        raise ServerFailed(f"{' '.join(map(str, args[1:3]))} ended with {process.returncode}: {(out + err).decode()}")
    return out.decode()


class Running:
    """A server that somebody else runs: {"starttls": (host, port), "direct": …}."""

    def __init__(self, addresses, folder, domain="localhost"):
        self.addresses, self.folder, self.domain = addresses, pathlib.Path(folder), domain
        self.ca = self.folder / "ca.pem"

    def address(self, tls):
        return self.addresses[tls]

    def node(self, n):
        """What the client number n connects to."""
        return self

    def addresses_of_nodes(self, tls):
        return [self.address(tls)]

    async def start(self):
        """Keeps the server's self-signed certificate as the one authority that
        the clients trust; they check chain and name as they do on the Internet."""
        self.ca.write_text(await asyncio.to_thread(self._certificate))

    def _certificate(self):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_alpn_protocols(["xmpp-client"])  # XEP-0368
        with socket.create_connection(self.addresses["direct"], START) as plain:
            with context.wrap_socket(plain, server_hostname=self.domain) as secure:
                return ssl.DER_cert_to_PEM_cert(secure.getpeercert(True))

    async def admin(self):
        """Returns name and password of an administrator, or None where they are not known."""

    async def stop(self):
        """Leaves the server as it is."""


class Starling(Running):
    """bin/starling serve on loopback, with data and log in folder, both named after the node."""

    process = None

    def __init__(self, binary, folder, settings=(), name="server", flags=()):
        super().__init__({}, folder)
        self.binary, self.name, self.flags = binary, name, flags
        self.settings = [arg for setting in ("listen.admin=127.0.0.1:0", *settings) for arg in ("--set", setting)]
        self.data, self.log = self.folder / name, self.folder / f"{name}.log"

    async def start(self):
        with self.log.open("wb") as log:
            self.process = await asyncio.create_subprocess_exec(
                self.binary, "serve", "--data", self.data, "--domain", self.domain,
                "--listen-c2s", "127.0.0.1:0", "--listen-tls", "127.0.0.1:0", "--listen-https", "",
                "--open-registration", *self.flags, *self.settings,
                stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            run = await asyncio.wait_for(self._ready(), START)
        except asyncio.TimeoutError:
            raise ServerFailed(f"no {self.data}/run.json after {START:.0f} s; log: {self._tail()}") from None
        for tls, listener in (("starttls", "c2s"), ("direct", "tls")):
            host, port = run["addresses"][listener].rsplit(":", 1)
            self.addresses[tls] = (host, int(port))
        await super().start()

    async def _ready(self):
        while True:
            try:
                run = json.loads((self.data / "run.json").read_text())
                if run["pid"] == self.process.pid:
                    return run
            except (FileNotFoundError, json.JSONDecodeError):
                pass
            if self.process.returncode is not None:
                raise ServerFailed(f"the server ended with {self.process.returncode}; log: {self._tail()}")
            await asyncio.sleep(0.02)

    async def admin(self):
        name, password = "admin", "a sesame for administrators"
        await self.command("user", "passwd", f"{name}@{self.domain}", "--password", password)
        return name, password

    async def command(self, *args):
        """Runs one of the server's commands on this node, and returns what it prints."""
        return await command(self.binary, *args, "--data", self.data)

    async def stop(self):
        if self.process is None:
            return
        if self.process.returncode is None:
            self.process.terminate()
        try:
            code = await asyncio.wait_for(self.process.wait(), STOP)
        except asyncio.TimeoutError:
            self.process.kill()
            await self.process.wait()
            raise ServerFailed(f"the server did not stop within {STOP:.0f} s of SIGTERM") from None
        complaints = re.findall(r'(?m)^.*(?:panic:|fatal error:|DATA RACE|level"?[=:]"?ERROR).*$',
                                self.log.read_text(errors="replace"))
        if self.addresses and (code != 0 or complaints):
            raise ServerFailed(f"the server ended with {code}; its log complains: {complaints[:5]}")

    def _tail(self):
        return self.log.read_text(errors="replace")[-2000:]
