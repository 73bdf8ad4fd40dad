"""What the server's errors mean: all that a real server can answer, and what happens to connections."""

import asyncio
import ssl

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from service.core.errors import BusUnavailable
from service.redis.connection import RedisConnection, RedisServers
from service.redis.errors import NoPrimary, is_callers_own, outage_of

NO_WRITES = "the queue's server does not take writes just now"
NOT_LET_IN = "the queue's server does not let this service in"
CANNOT = "the queue's server cannot serve just now"
NO_CONNECTION = "the queue's server does not answer: no connection"

SAID = {
    "READONLY You can't write against a read only replica.": NO_WRITES,
    "MISCONF Valkey is configured to save RDB snapshots, but it's currently unable to persist on disk": NO_WRITES,
    "OOM command not allowed when used memory > 'maxmemory'.": NO_WRITES,
    "NOREPLICAS Not enough good replicas to write.": NO_WRITES,
    "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)": CANNOT,
    "LOADING Valkey is loading the dataset in memory": CANNOT,
    "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.": CANNOT,
    "CLUSTERDOWN The cluster is down": CANNOT,
    "BUSY Valkey is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.": CANNOT,
    "TRYAGAIN Multiple keys request during rehashing of slot": CANNOT,
    "MOVED 5 127.0.0.1:7000": CANNOT,  # of what is asked for as one server
    "ASK 5 127.0.0.1:7000": CANNOT,
    "NOAUTH Authentication required.": NOT_LET_IN,
    "WRONGPASS invalid username-password pair or user is disabled.": NOT_LET_IN,
    "NOPERM User viscpm has no permissions to run the 'xadd' command": NOT_LET_IN,
    "DENIED Redis is running in protected mode because protected mode is enabled": NOT_LET_IN,
    "ERR unknown command 'XAUTOCLAIM', with args beginning with: '5'": NOT_LET_IN,
    "ERR Unknown Redis command called from script script: abc, on @user_script:1.": NOT_LET_IN,
    "ERR max number of clients reached": NO_CONNECTION,
    # as a server before 7.0 tells it
    "ERR Error running script (call to f_a): @user_script:1: @user_script: 1: -READONLY You can't write": NO_WRITES,
    "SOMETHING that no server says yet": CANNOT,
}
CALLERS = [
    "ERR user_script:12: attempt to index a nil value script: abc, on @user_script:12.",
    "ERR wrong number of arguments for 'get' command",
    "WRONGTYPE Operation against a key holding the wrong kind of value",
    "NOGROUP No such consumer group 'workers' for key name 'jobs:chat'",
    "BUSYGROUP Consumer Group name already exists",
]


@pytest.mark.parametrize(("said", "told"), SAID.items())
async def test_an_outage_is_told_in_our_words_and_logged_in_the_servers(
    said: str, told: str, servers: RedisServers, caplog: pytest.LogCaptureFixture
) -> None:
    connection = RedisConnection(servers)
    try:
        for _ in range(2):
            with pytest.raises(BusUnavailable) as caught:
                await connection.send("EVAL", "return redis.error_reply(ARGV[1])", 0, said)
            assert caught.value.message == told and caught.value.retry_after_s
        assert await connection.send("PING") == b"PONG"
    finally:
        await connection.close()
    words = said.removeprefix("ERR ").split(" ", 1)[1]
    assert [record.message.count(words) for record in caplog.records if record.levelname == "WARNING"] == [1]


@pytest.mark.parametrize("said", CALLERS)
async def test_what_is_the_callers_own_reaches_it_as_it_is(
    said: str, servers: RedisServers, caplog: pytest.LogCaptureFixture
) -> None:
    connection = RedisConnection(servers)
    first, last = connection.send("EVAL", "return redis.error_reply(ARGV[1])", 0, said), connection.send("PING")
    with pytest.raises(ResponseError, match=said.split()[1]) as caught:
        await first
    assert is_callers_own(caught.value)
    assert await last == b"PONG", "the others of its exchange have their replies"
    await connection.close()
    assert caplog.text == ""


def test_what_comes_from_no_server() -> None:
    refused = RedisConnectionError("Error 111 connecting to 10.0.0.1:6379. Connect call failed")
    assert outage_of(refused, 2.0)[:2] == ("no connection", NO_CONNECTION)
    assert outage_of(TimeoutError(), 2.0)[:3] == (
        "no reply",
        "the queue's server does not answer: no reply within 2 s",
        "no reply within 2 s",
    )
    unknown_ca = RedisConnectionError("Error connecting")
    unknown_ca.__context__ = ssl.SSLCertVerificationError(1, "certificate verify failed")
    assert outage_of(unknown_ca, 2.0)[:2] == ("TLS", NOT_LET_IN)
    ended = RedisConnectionError("Error connecting")
    ended.__context__ = ssl.SSLEOFError(8, "EOF occurred in violation of protocol")
    assert outage_of(ended, 2.0).code == "no connection", "a server that goes away in a handshake is merely away"
    nobody = NoPrimary("a:1: no connection; b:1: no connection")
    nobody.__cause__ = refused
    assert outage_of(nobody, 2.0)[:3] == ("no connection", NO_CONNECTION, str(nobody))
    assert outage_of(AttributeError("of some library"), 2.0).told == CANNOT


async def test_nobody_has_to_hear_of_an_outage(servers: RedisServers, caplog: pytest.LogCaptureFixture) -> None:
    """Futures that nobody awaits say nothing in the log."""
    connection = RedisConnection(servers)
    for _ in range(3):
        connection.send("EVAL", "return redis.error_reply(ARGV[1])", 0, "LOADING")
    await asyncio.sleep(0.1)
    await connection.close()
    assert "never retrieved" not in caplog.text
