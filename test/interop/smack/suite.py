"""Smack's integration suite as a scenario: what passes is compared with passing.txt and notyet.txt."""

import asyncio
import collections
import pathlib
import re

HERE = pathlib.Path(__file__).parent
LIBRARIES = HERE.parent / ".cache" / "smack"
PASSING, NOT_YET = HERE / "passing.txt", HERE / "notyet.txt"
REPLY = 2000  # milliseconds that a test waits for an answer

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
    """The suite, or those of its tests that --only names."""

    limit = 480.0  # seconds

    async def play(self, server, cast, options):
        passing, not_yet, chosen = set(entries(PASSING)), entries(NOT_YET), options.only
        if chosen:
            passing = {name for name in passing if covers(chosen, name)}
            not_yet = {}
        results, ended = await self._run(server, {"enabledTests": chosen, "disabledTests": not_yet})
        self._compare(results, ended, passing, not_yet, options.update)

    async def _run(self, server, choice):
        """Returns the results, and the test that ended the run before all were done, or None."""
        host, port = server.address("starttls")
        log, results = server.folder / "smack.log", server.folder / "smack.tsv"
        trust = server.folder / "trust.p12"
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
        code = await self._command("java", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
                                   *(f"-D{key}={value}" for key, value in settings.items()),
                                   "-cp", f"{LIBRARIES}/*", HERE / "Suite.java", host, port, results, log=log)
        started = re.findall(r"(?m) INFO (\S+) \(.*\) Start$", log.read_text(errors="replace"))
        if not results.exists() or (code != 0 and not started):
            raise SuiteFailed(f"Smack ended with {code}: {log.read_text(errors='replace')[-2000:]}")
        lines = (Result(*line.split("\t")) for line in results.read_text().splitlines())
        return list(lines), started[-1] if code != 0 else None

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

    def _compare(self, results, ended, passing, not_yet, update):
        by_name = {result.name: result for result in results}
        passed = {result.name for result in results if result.outcome == "passed"}
        impossible = {result.name for result in results if result.outcome == "not possible"}
        new = sorted(name for name in passed - passing if not covers(not_yet, name))
        print(f"  smack: {len(passed)} passed, {len(impossible)} not possible, "
              f"{len(not_yet)} not yet (notyet.txt), {len(new)} new")
        problems = [f"{ended} ended the run: see smack.log"] if ended else []
        for name in sorted(passing - passed):
            result = by_name.get(name) or by_name.get(name.split(".")[0])
            problems.append(f"{name}: {result.outcome}: {result.reason}" if result else f"{name}: did not run")
        problems += [f"{result.name}: failed and is in no list: {result.reason}" for result in results
                     if result.outcome == "failed" and result.name not in passing and not covers(not_yet, result.name)]
        if new and update:
            PASSING.write_text("".join(f"{name}\n" for name in sorted({*entries(PASSING), *new})))
        for name in new:
            print(f"  smack: {name} passes: {'added to' if update else 'add it (--update) to'} passing.txt")
        if problems:
            raise SuiteFailed("\n  ".join([f"{len(problems)} problems", *problems]))
