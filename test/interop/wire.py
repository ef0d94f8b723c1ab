"""A TCP connection between a client and the server that can be cut."""

import asyncio
import socket
import struct

NO_LINGER = struct.pack("ii", 1, 0)  # closing means RST, not FIN, for which TLS would wait


class Wire:
    """Carries what comes to its address on loopback to that of the server and back."""

    def __init__(self, server):
        self.server = server
        self.deaf = False  # what the client sends is lost on its way
        self.ends = set()  # transports of both sides
        self.listener, self.address = None, None

    async def __aenter__(self):
        self.listener = await asyncio.start_server(self._carry, "127.0.0.1", 0)
        self.address = self.listener.sockets[0].getsockname()
        return self

    async def __aexit__(self, *_):
        self.listener.close()
        self.cut()

    def cut(self):
        """Resets all connections: no side hears more from the other. The next connection is whole again."""
        for end in self.ends:
            end.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
            end.abort()
        self.deaf = False

    async def _carry(self, reader, writer):
        try:
            far_reader, far_writer = await asyncio.open_connection(*self.server)
        except OSError:
            writer.transport.abort()
            return
        ends = {writer.transport, far_writer.transport}
        self.ends |= ends
        try:
            await asyncio.gather(self._copy(reader, far_writer, True), self._copy(far_reader, writer, False))
        finally:
            self.ends -= ends
            for end in ends:
                end.abort()

    async def _copy(self, reader, writer, from_client):
        """Ends with the connection, or when that side has no more to say."""
        try:
            while data := await reader.read(1 << 16):
                if not (from_client and self.deaf):
                    writer.write(data)
                    await writer.drain()
            writer.write_eof()
        except OSError:
            pass
