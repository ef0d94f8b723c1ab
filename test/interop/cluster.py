"""Three nodes of one cluster as the server under test: they share an SQLite file, and the client number n connects to
the node n mod 3."""

import asyncio
import json
import pathlib
import shutil

from server import START, ServerFailed, Starling, command

NAMES = ("one", "two", "three")


class Cluster:
    """Like server.Starling, with three processes in a folder."""

    def __init__(self, binary, folder, settings=()):
        self.folder = pathlib.Path(folder)
        self.binary, self.settings = binary, settings
        self.nodes = []

    @property
    def domain(self):
        return self.nodes[0].domain

    @property
    def ca(self):
        return self.nodes[0].ca

    def address(self, tls):
        return self.nodes[0].address(tls)

    def node(self, n):
        return self.nodes[n % len(self.nodes)]

    def addresses_of_nodes(self, tls):
        return [node.address(tls) for node in self.nodes]

    async def admin(self):
        return await self.nodes[0].admin()

    async def start(self):
        token = self.folder / "join-token"
        await command(self.binary, "cluster", "token", "--out", token)
        shared = ("--database", f"sqlite:{self.folder / 'shared.db'}", "--allow-shared-sqlite", "--join-token", token,
                  "--cluster-listen", "127.0.0.1:0")
        self.nodes = [Starling(self.binary, self.folder, self.settings, name, (*shared, "--node-name", name))
                      for name in NAMES]
        first, *others = self.nodes
        await first.start()
        peer = (await self._status(first))["members"][0]["address"]
        for node in others:
            node.flags += ("--cluster-peers", peer)
            shutil.copytree(first.data / "tls", node.data / "tls")  # the nodes of a domain have one certificate
        await asyncio.gather(*(node.start() for node in others))
        await asyncio.wait_for(self._complete(), START)

    async def _status(self, node):
        return json.loads(await node.command("cluster", "status", "--json"))

    async def _complete(self):
        """Waits until every node sees all, and all are ready."""
        for node in self.nodes:
            while [member["state"] for member in (await self._status(node))["members"]] != ["ready"] * len(self.nodes):
                await asyncio.sleep(0.05)

    async def stop(self):
        ends = await asyncio.gather(*(node.stop() for node in self.nodes), return_exceptions=True)
        problems = [f"node {node.name}: {end}" for node, end in zip(self.nodes, ends) if end is not None]
        if problems:
            raise ServerFailed("\n  ".join(problems))
