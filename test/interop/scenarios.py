"""Runs the scenarios; started by ./run inside the virtual environment."""

import argparse
import asyncio
import os
import pathlib
import shutil
import signal
import sys
import tempfile
import time

from cluster import Cluster
from comeback import Comeback
from features import tour
from profanity import Profanity
from server import Running, Starling
from slix import Slix
from slix_features import SlixFeatures
from slix_streams import SlixStreams
from smack.suite import Smack
from story import pair
from streams import keep_messages
from xmppjs import XmppJS
from wire import Wire
from xmppjs_features import XmppJSFeatures
from xmppjs_streams import XmppJSStreams

HERE = pathlib.Path(__file__).parent
FAILURES = HERE / ".cache" / "failures"


class Story:
    """Two clients that play the story over one transport."""

    limit = 240.0  # seconds
    settings = ()  # of the server

    def __init__(self, tls, *kinds, cluster=False):
        self.tls, self.kinds, self.cluster = tls, kinds, cluster

    async def play(self, server, cast, options):
        suffix = os.urandom(3).hex()  # a server that stays keeps its accounts
        cast.extend(kind(server.node(n), self.tls, f"{who}{suffix}", f"{who} sesame")
                    for n, (who, kind) in enumerate(zip(("romeo", "juliet"), self.kinds)))
        await pair(*cast)


class Tour:
    """Two clients of one kind, and an administrator, that try all other features."""

    limit = 240.0
    settings = ("search.enabled=true",)

    def __init__(self, tls, kind, cluster=False):
        self.tls, self.kind, self.cluster = tls, kind, cluster

    async def play(self, server, cast, options):
        suffix = os.urandom(3).hex()
        cast.extend(self.kind(server.node(n), self.tls, f"{who}{suffix}", f"{who} sesame")
                    for n, who in enumerate(("romeo", "juliet")))
        account, admin = await server.admin(), None
        if account:
            admin = self.kind(server.node(2), self.tls, *account)
            cast.append(admin)
        await tour(*cast[:2], admin)


class Streams(Tour):
    """Two clients of one kind, and a second one of one account, that try what keeps messages from being lost. One loses
    its connection."""

    settings = ()

    async def play(self, server, cast, options):
        suffix = os.urandom(3).hex()
        async with Wire(server.node(1).address(self.tls)) as wire:
            through = Running({self.tls: wire.address}, server.folder, server.domain)
            places = (("romeo", server.node(0)), ("juliet", through), ("juliet", server.node(2)))
            cast.extend(self.kind(place, self.tls, f"{who}{suffix}", f"{who} sesame") for who, place in places)
            await keep_messages(*cast, wire)


PAIRS = [(Slix, Slix), (XmppJS, XmppJS), (Slix, XmppJS), (Slix, Profanity), (XmppJS, Profanity)]
SCENARIOS = {f"{tls} {a.kind}-{b.kind}": Story(tls, a, b) for tls in ("starttls", "direct") for a, b in PAIRS}
for kind in (SlixFeatures, XmppJSFeatures):
    SCENARIOS[f"starttls {kind.kind}-features"] = Tour("starttls", kind)
for kind in (SlixStreams, XmppJSStreams):
    SCENARIOS[f"starttls {kind.kind}-streams"] = Streams("starttls", kind)
for tls in ("starttls", "direct"):
    SCENARIOS[f"{tls} xmpp.js-comeback"] = Comeback(tls)
SCENARIOS["starttls smack"] = Smack()
for a, b in ((Slix, Slix), (XmppJS, XmppJS), (Slix, XmppJS)):
    SCENARIOS[f"cluster {a.kind}-{b.kind}"] = Story("starttls", a, b, cluster=True)
for kind in (SlixFeatures, XmppJSFeatures):
    SCENARIOS[f"cluster {kind.kind}-features"] = Tour("starttls", kind, cluster=True)
for kind in (SlixStreams, XmppJSStreams):
    SCENARIOS[f"cluster {kind.kind}-streams"] = Streams("starttls", kind, cluster=True)
SCENARIOS["cluster smack"] = Smack(cluster=True)


async def play(name, options):
    """Plays one scenario and returns None, or what went wrong."""
    scenario = SCENARIOS[name]
    folder = pathlib.Path(tempfile.mkdtemp(prefix="starling-interop-"))
    if options.against:
        server = Running(options.against, folder)
    else:
        server = (Cluster if scenario.cluster else Starling)(options.binary, folder, scenario.settings)
    cast, problems = [], []

    async def act():
        await server.start()
        await scenario.play(server, cast, options)

    try:
        await asyncio.wait_for(act(), scenario.limit)
    except asyncio.TimeoutError:
        problems.append(f"not done after {scenario.limit:.0f} s")
    except Exception as err:
        problems.append(f"{type(err).__name__}: {err}")
    finally:
        for stop in [client.close for client in cast] + [server.stop]:
            try:
                await stop()
            except Exception as err:
                problems.append(f"{type(err).__name__}: {err}")
        if problems:
            keep(name, folder, cast)
        shutil.rmtree(folder)
    return "\n  ".join(problems) or None


def keep(name, folder, cast):
    """Saves server log, traffic and screens of a scenario that failed."""
    where = FAILURES / name.replace(" ", "-")
    where.mkdir(parents=True)
    for log in folder.glob("*.log"):
        shutil.copy(log, where)
    for number, client in enumerate(cast):
        lines = [f"{time.strftime('%H:%M:%S', time.localtime(at))} {line}\n" for at, line in client.trace]
        (where / f"{number}-{client.name[:-6] or client.name}-{client.kind}.txt").write_text("".join(lines))


def address(text):
    host, port = text.rsplit(":", 1)
    return host, int(port)


def parse():
    parser = argparse.ArgumentParser(prog="run", description=__doc__)
    parser.add_argument("names", nargs="*", help="parts of scenario names; all scenarios without")
    parser.add_argument("--list", action="store_true", help="print the names and end")
    parser.add_argument("--binary", default=HERE.parent.parent / "bin" / "starling", type=pathlib.Path)
    parser.add_argument("--against", nargs=2, type=address, metavar=("STARTTLS", "DIRECT"),
                        help="HOST:PORT of both listeners of a server that runs already, with domain "
                             "localhost and open registration, instead of starting one for each scenario")
    parser.add_argument("--update", action="store_true", help="add what passes now to smack/passing.txt")
    parser.add_argument("--only", action="append", metavar="TEST",
                        help="CLASS or CLASS.METHOD of Smack to run, in smack/notyet.txt or not; may be repeated")
    options = parser.parse_args()
    if options.against:
        options.against = dict(zip(("starttls", "direct"), options.against))
    return options


async def main():
    options = parse()
    chosen = [name for name in SCENARIOS
              if not options.names or any(part in name for part in options.names)]
    if options.against:  # that is one node
        chosen = [name for name in chosen if not SCENARIOS[name].cluster]
    if options.list:
        print("\n".join(chosen))
        return 0
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, task.cancel)
    shutil.rmtree(FAILURES, ignore_errors=True)
    failed = 0
    for name in chosen:
        start = time.monotonic()
        problem = await play(name, options)
        took = f"({time.monotonic() - start:.1f} s)"
        failed += problem is not None
        print(f"FAIL {name} {took}\n  {problem}" if problem else f"ok {name} {took}", flush=True)
    if failed:
        print(f"what the clients and the server saw: {FAILURES.relative_to(HERE.parent.parent)}")
    print(f"{len(chosen) - failed} passed, {failed} failed")
    return 1 if failed or not chosen else 0


if __name__ == "__main__":
    try:
        sys.exit(asyncio.run(main()))
    except asyncio.CancelledError:
        sys.exit("interrupted")
