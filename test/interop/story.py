"""One story that any two clients play: from registration to offline messages."""

from client import Missed, Refused

# Markup and characters of two and three bytes must come through as they are.
TRICKY = "a < b & \"c\" > 'd' ]]> zażółć ☂"


async def wrong_password(client):
    try:
        await client.login(password="not the password")
    except Refused as refused:
        if str(refused) == "not-authorized":  # RFC 6120 §6.5.10
            return
        raise Missed(f"{client.kind}: a wrong password was refused with {refused}, not with not-authorized")
    raise Missed(f"{client.kind}: a wrong password was accepted")


async def log_in(client):
    await client.login()
    if client.mechanism not in client.strong:
        raise Missed(f"{client.kind} logged in with {client.mechanism}, not with one of {client.strong}")


async def befriend(a, b):
    """RFC 6121 §3.1: both ask, both consent."""
    await a.subscribe(b.jid)
    await b.await_request(a.jid)
    await b.approve(a.jid)
    await b.subscribe(a.jid)
    await a.await_request(b.jid)
    await a.approve(b.jid)
    await a.await_subscription(b.jid, "both")
    await b.await_subscription(a.jid, "both")
    await a.await_presence(b.jid, True)
    await b.await_presence(a.jid, True)


async def pair(a, b):
    for client in (a, b):
        await client.register()
        await wrong_password(client)
        await log_in(client)
        await client.ping()
        features = await client.features()
        if "http://jabber.org/protocol/disco#info" not in features:  # XEP-0030 §3.1
            raise Missed(f"{client.kind}: disco#info of the server has only {features}")

    await befriend(a, b)

    for body in ("hello", TRICKY):
        await a.send(b.jid, body)
        await b.await_message(a.jid, body, delayed=False)
        await b.send(a.jid, body + " too")
        await a.await_message(b.jid, body + " too", delayed=False)

    await b.logout()
    await a.await_presence(b.jid, False)
    await a.send(b.jid, "while you were away")
    await a.send(b.jid, TRICKY)
    await a.ping()  # its answer comes after the server has handled both: RFC 6120 §10.1
    await log_in(b)
    await b.await_message(a.jid, "while you were away", delayed=True)
    await b.await_message(a.jid, TRICKY, delayed=True)
    await b.await_subscription(a.jid, "both")
    await a.await_presence(b.jid, True)
    await b.await_presence(a.jid, True)

    await a.logout()
    await b.await_presence(a.jid, False)
    await b.logout()
