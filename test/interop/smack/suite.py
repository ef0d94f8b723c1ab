"""Smack's integration suite as a scenario: what passes is compared with passing.txt and notyet.txt."""

import asyncio
import collections
import pathlib
import re

HERE = pathlib.Path(__file__).parent
LIBRARIES = HERE.parent / ".cache" / "smack"
PASSING, NOT_YET, NOT_SPREAD = HERE / "passing.txt", HERE / "notyet.txt", HERE / "notspread.txt"
REPLY = 2000  # milliseconds that a test waits for an answer

PASSED, FAILED, NOT_POSSIBLE = "passed", "failed", "not possible"  # the outcomes that Suite.java writes
Result = collections.namedtuple("Result", "outcome name millis reason")


class SuiteFailed(Exception):
    """The suite did not run to its end, or not all passed that should."""


def entries(file):
    """The lines "name" or "name: reason" of a list, as a dictionary."""
    lines = (line.strip() for line in file.read_text().splitlines())
    return {name: reason.strip() for name, _, reason in
            (line.partition(": ") for line in lines if line and not line.startswith("#"))}


def covers(names, test):
    """Tells whether a list has the test CLASS.METHOD or its class."""
    return bool({test, test.split(".")[0]} & set(names))


class Smack:
    """The suite, or those of its tests that --only names; on a cluster with its accounts on different nodes."""

    limit = 480.0  # seconds
    settings = ()

    def __init__(self, cluster=False):
        self.cluster = cluster

    async def play(self, server, cast, options):
        passing, not_yet, chosen = set(entries(PASSING)), entries(NOT_YET), options.only
        if self.cluster:
            not_yet |= entries(NOT_SPREAD)
            passing = {name for name in passing if not covers(not_yet, name)}
        if chosen:
            passing = {name for name in passing if covers(chosen, name)}
            not_yet = {}
        results = await self._run(server, {"enabledTests": chosen, "disabledTests": not_yet})
        again = {name for name, result in results.items() if result.outcome == FAILED} | passing - results.keys()
        if again:
            # Tests run in any order with the same three accounts, and some stumble over what the one before has left.
            print(f"  smack: again, each by itself: {', '.join(sorted(again))}", flush=True)
            for name in sorted(again):
                results |= await self._run(server, {"enabledTests": {name}})
        self._compare(results, passing, not_yet, options.update)

    async def _run(self, server, choice):
        """Runs tests, and returns the results by name."""
        addresses = server.addresses_of_nodes("starttls")
        host, ports = addresses[0][0], ",".join(str(port) for _, port in addresses)
        log, results, trust = (server.folder / name for name in ("smack.log", "smack.tsv", "trust.p12"))
        for file in (results, trust):
            file.unlink(missing_ok=True)
        if await self._command("keytool", "-importcert", "-noprompt", "-alias", "server", "-file", server.ca,
                               "-keystore", trust, "-storepass", "starling", log=log) != 0:
            raise SuiteFailed(f"keytool: {log.read_text(errors='replace')}")
        name, password = await server.admin() or ("", "")  # with none, Smack registers its accounts itself
        settings = {
            "javax.net.ssl.trustStore": trust,
            "javax.net.ssl.trustStorePassword": "starling",
            "java.util.logging.SimpleFormatter.format": "%1$tT.%1$tL %4$s %5$s%6$s%n",
            "sinttest.service": server.domain,
            "sinttest.adminAccountUsername": name,
            "sinttest.adminAccountPassword": password,
            "sinttest.defaultConnection": "tcp",
            "sinttest.replyTimeout": REPLY,
            "sinttest.debugger": "console",
            **{f"sinttest.{key}": ",".join(tests) for key, tests in choice.items() if tests},
        }
        begin = log.stat().st_size
        code = await self._command("java", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
                                   *(f"-D{key}={value}" for key, value in settings.items()),
                                   "-cp", f"{LIBRARIES}/*", HERE / "Suite.java", host, ports, results, log=log)
        text = log.read_bytes()[begin:].decode(errors="replace")
        started = re.findall(r"(?m) INFO (\S+) \(.*\) Start$", text)
        if not results.exists() or (code != 0 and not started):
            raise SuiteFailed(f"Smack ended with {code}: {text[-2000:]}")
        lines = [Result(*line.split("\t")) for line in results.read_text().splitlines()]
        if code != 0:  # what a test throws unchecked ends the run
            lines.append(Result(FAILED, started[-1], "0", "ended the run: see smack.log"))
        return {result.name: result for result in lines}

    async def _command(self, *args, log):
        with log.open("ab") as out:
            process = await asyncio.create_subprocess_exec(
                *map(str, args), stdin=asyncio.subprocess.DEVNULL, stdout=out, stderr=asyncio.subprocess.STDOUT)
            try:
                return await process.wait()
            finally:
                if process.returncode is None:
                    process.kill()
                    await process.wait()

    def _compare(self, results, passing, not_yet, update):
        passed, failed, impossible = ({name for name, result in results.items() if result.outcome == outcome}
                                      for outcome in (PASSED, FAILED, NOT_POSSIBLE))
        new = sorted(name for name in passed - passing if not covers(not_yet, name))
        print(f"  smack: {len(passed)} passed, {len(failed)} failed, {len(impossible)} not possible, "
              f"{len(not_yet)} not yet, {len(new)} new")
        if new and update:
            PASSING.write_text("".join(f"{name}\n" for name in sorted({*entries(PASSING), *new})))
        for name in new:
            print(f"  smack: {name} passes: {'added to' if update else 'add it (--update) to'} passing.txt")
        problems = []
        for name in sorted(passing - passed | failed):
            result = results.get(name) or results.get(name.split(".")[0])
            problems.append(f"{name}: {result.outcome}: {result.reason}" if result else f"{name}: did not run")
        if problems:
            raise SuiteFailed("\n  ".join([f"{len(problems)} of Smack's tests", *problems]))
