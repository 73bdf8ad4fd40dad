"""The queue's server as people run it, under load: sentinels, a cluster, TLS with few rights, one server for two."""

import asyncio
import contextlib
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
from redis.crc import key_slot

from service.process.server_check import acl_rule
from tests.e2e.load import ENGINES, KINDS, Load
from tests.e2e.tree import FAST_LEASES, Tree, wait_for
from tests.redis_servers import Cluster, RedisProcess, Watched, is_in_step

pytestmark = pytest.mark.timeout(240)

ROOT = Path(__file__).parents[2]
TLS = ROOT / "tests/tls"
NUM_FAILOVERS = 10
BACK_S = 4.0  # after the new primary's first answer; calls to a hung server wait 2 s of it, and a busy machine took 3.2
# What a client may be told: come back, or, where an unreplicated write went with its server, that its job is lost
TOLD = {"done", "bus_unavailable", "job_lost"}
STATES = ("done", "refused", "failed", "cancelled")


@contextlib.contextmanager
def serving(folder: Path, name: str, url: str, **variables: str) -> Iterator[Tree]:
    """Two API processes, two chat workers and one that paints, none of which may end."""
    own = {"VISCPM_REDIS_URL": url, "VISCPM_CHAT_WORKERS": "2", "VISCPM_API_PROCESSES": "2"}
    own["VISCPM_HEARTBEAT_EXPIRY_S"] = "60"  # no worker counts as gone for as long as sentinels take on a busy machine
    tree = Tree(folder / name, **{**ENGINES, **FAST_LEASES, **own, **variables})
    try:
        tree.wait_ready()
        processes = {one.pid for one in tree.processes()}
        yield tree
        assert {one.pid for one in tree.processes()} == processes, tree.log
        assert "starting it again" not in tree.log and "Traceback" not in tree.log, tree.log
        assert "never retrieved" not in tree.log
    finally:
        tree.stop()


def settle(server: Callable[[], RedisProcess], prefix: str = "viscpm") -> dict[str, int]:
    """Wait until every accepted job has its one ending, and nothing is left over; the counts by state."""

    def is_settled() -> dict[str, int] | None:
        try:
            stored = _pairs(server().call("HGETALL", f"{{{prefix}}}:accounting"))
            kept = [
                server().call(*command, f"{{{prefix}}}:{key}")
                for kind in ("chat", "paint")
                for command, key in ((("ZCARD",), f"slots:{kind}"), (("XLEN",), f"jobs:{kind}"))
            ]
        except redis.RedisError:
            return None
        counts = {state: sum(int(stored.get(f"{state}:{kind}", 0)) for kind in ("chat", "paint")) for state in STATES}
        accepted = sum(int(stored.get(f"accepted:{kind}", 0)) for kind in ("chat", "paint"))
        is_exact = accepted == sum(counts.values()) and not any(kept)
        return {**counts, "accepted": accepted} if is_exact else None

    counts: dict[str, int] = wait_for(is_settled, 40.0, "accepted = done + refused + failed + cancelled")
    return counts


def _pairs(reply: Any) -> dict[str, str]:
    return reply if isinstance(reply, dict) else dict(zip(reply[::2], reply[1::2], strict=True))


def takes_writes(server: RedisProcess) -> bool:
    try:
        return bool(server.call("ROLE")[0] == "master" and server.call("SET", "{probe}", "1", "PX", 1000))
    except redis.RedisError:
        return False


def fail_over(watched: Watched, number: int, load: Load) -> tuple[str, float]:
    """Kill the primary, hang it, or have the sentinels exchange it.

    Returns how, and how long after the new one's first write requests of every kind were answered.
    """
    old, new = watched.primary, watched.replica
    how = ("killed", "coordinated", "hung", "forced")[number % 4]
    if how == "killed":
        old.kill()
        back_s = _back_after(new, load)
        wait_for(lambda: watched.is_primary(new), 20.0, "sentinels that agree")
        old.start()  # empty: before they agree it would be asked as a primary
    elif how == "hung":
        with old.hung():
            back_s = _back_after(new, load)
            wait_for(lambda: watched.primary is new, 20.0, "sentinels that agree")
    else:  # the old one takes writes for a second more where it is forced: they are lost
        options = ["COORDINATED"] if how == "coordinated" else []
        watched.sentinels[number % 3].call("SENTINEL", "FAILOVER", "main", *options)
        back_s = _back_after(new, load)
    return how, back_s


def _back_after(new: RedisProcess, load: Load) -> float:
    wait_for(lambda: takes_writes(new), 30.0, "a new primary")
    return max(load.first_answers().values())


def test_ten_failovers_under_load_cost_no_process_and_no_answer(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    back: list[tuple[str, float]] = []
    try:
        with serving(tmp_path, "data", watched.url) as tree:
            with Load(tree.url) as load:
                wait_for(lambda: all(map(load.count, KINDS)), 30.0, "answers")
                for number in range(NUM_FAILOVERS):
                    back.append(fail_over(watched, number, load))
                    wait_for(watched.is_settled, 30.0, "a replica in step for the next failover")
            counts = settle(lambda: watched.primary)
            assert tree.metric("viscpm_worker_restarts_total") == 0
        report(load, counts, back)
        assert load.wrong == [] and set(load.results) <= TOLD, load.results
        assert max(taken_s for _, taken_s in back) < BACK_S, back
    finally:
        watched.stop()


def test_a_clusters_node_dies_and_a_slot_moves_under_load(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path)
    slot = key_slot(b"{viscpm}")
    back: list[tuple[str, float]] = []
    try:
        with serving(tmp_path, "data", cluster.url) as tree:
            with Load(tree.url) as load:
                wait_for(lambda: all(map(load.count, KINDS)), 30.0, "answers")
                old = cluster.owner(slot)
                target = next(node for node in cluster.nodes[:3] if node is not old)
                old.call("CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", slot, slot, "NODE", target.call("CLUSTER", "MYID"))
                wait_for(lambda: cluster.owner(slot, [target]) is target, 20.0, "the slot's new node")
                back.append(("moved", max(load.first_answers().values())))
                others = [node for node in cluster.nodes if node is not target]
                replica = cluster.nodes[cluster.nodes.index(target) + 3]
                wait_for(lambda: is_in_step(replica), 20.0, "a replica in step")
                target.kill()
                wait_for(lambda: cluster.owner(slot, others) is replica, 20.0, "the replica as the slot's node")
                back.append(("died", max(load.first_answers().values())))
            counts = settle(lambda: replica)
            assert tree.metric("viscpm_worker_restarts_total") == 0
        report(load, counts, back)
        assert load.wrong == [] and set(load.results) <= TOLD, load.results
        assert max(taken_s for _, taken_s in back) < BACK_S, back
    finally:
        cluster.stop()


def test_tls_with_an_own_authority_and_a_user_with_the_documented_rights(tmp_path: Path) -> None:
    server = RedisProcess(tmp_path, "requirepass admin", password="admin")
    (line,) = [
        line for line in (ROOT / "docs/operations/redis.md").read_text().splitlines() if line.startswith("ACL SETUSER ")
    ]
    server.call(*line.replace(">PASSWORD", ">p@ss/word").split())
    assert line == f"ACL SETUSER {acl_rule('viscpm')}"
    files = {"VISCPM_REDIS_CA_FILE": "ca.pem", "VISCPM_REDIS_CERT_FILE": "client.pem"}
    variables = {name: str(TLS / file) for name, file in files.items()}
    try:
        with tls_in_front_of(server) as port:
            url = f"rediss://viscpm:p%40ss%2Fword@localhost:{port}"
            with serving(tmp_path, "data", url, **variables) as tree:
                with Load(tree.url, timeout_s=30.0) as load:
                    wait_for(lambda: len(load.ended) > 100, 30.0, "a hundred answers")
                    with tree.client() as client:
                        first = client.post("/chat", json={"question": "echo one"}).json()
                        talk = f"/conversations/{first['conversation_id']}"
                        export = client.get(f"{talk}/export").json()
                        ways = [
                            client.post(f"{talk}/regenerate", json={}),
                            client.post(f"{talk}/branch", json={}),
                            client.post("/conversations/import", json=export),
                            client.patch(talk, json={"title": "one"}),
                            client.get("/conversations", params={"limit": 2}),
                        ]
                        assert [one.status_code for one in ways] == [200] * 5
                        assert client.get(talk).status_code == 200 and client.delete(talk).status_code == 204
                        assert _batch_of_two(client)["request_counts"]["completed"] == 2
                        job = client.post("/chat", json={"question": "stream 500"}, headers={"prefer": "respond-async"})
                        assert client.delete(f"/jobs/{job.json()['id']}").status_code in (200, 202, 204), job.text
                counts = settle(lambda: server)
                assert "p@ss" not in tree.log and "p%40ss" not in tree.log
                denied = server.call("ACL", "LOG")
                assert denied == [], denied
            report(load, counts, [])
            assert load.wrong == [] and set(load.results) == {"done"}, load.results
            refused = Tree(tmp_path / "refused", VISCPM_REDIS_URL=url, VISCPM_REDIS_CA_FILE=str(TLS / "other_ca.pem"))
            assert refused.process.wait(30) == 2
            assert "do not agree on TLS" in refused.log and "CERTIFICATE_VERIFY_FAILED" in refused.log, refused.log
    finally:
        server.kill()


def _batch_of_two(client: httpx.Client) -> dict[str, Any]:
    """Every way of files and batches; the batch as it ended."""
    lines = [
        {"custom_id": str(number), "method": "POST", "url": "/chat", "body": {"question": "echo one"}}
        for number in range(2)
    ]
    content = "".join(f"{json.dumps(line)}\n" for line in lines).encode()
    file_id, other_id = (
        client.post("/v1/files", files={"file": ("two.jsonl", content)}, data={"purpose": "batch"}).json()["id"]
        for _ in range(2)
    )
    order = {"input_file_id": file_id, "endpoint": "/chat", "completion_window": "24h"}
    batch_id = client.post("/v1/batches", json=order).json()["id"]

    def ended() -> dict[str, Any] | None:
        batch: dict[str, Any] = client.get(f"/v1/batches/{batch_id}").json()
        return batch if batch["status"] == "completed" else None

    batch: dict[str, Any] = wait_for(ended, 30.0, "the batch's end")
    for path, options in (("/v1/files", {}), ("/v1/files", {"order": "asc"}), ("/v1/batches", {})):
        first = client.get(path, params={"limit": 1, **options}).json()["last_id"]
        assert client.get(path, params={"after": first, **options}).status_code == 200
    assert client.get(f"/v1/files/{batch['output_file_id']}/content").status_code == 200
    assert client.delete(f"/v1/files/{other_id}").status_code == 200
    assert client.post(f"/v1/batches/{batch_id}/cancel").status_code < 500
    return batch


def test_two_stacks_share_a_server(tmp_path: Path) -> None:
    server = RedisProcess(tmp_path)
    try:
        with (
            serving(tmp_path, "a", server.url, VISCPM_REDIS_PREFIX="a", VISCPM_CHAT_WORKERS="1") as one,
            serving(tmp_path, "b", server.url, VISCPM_REDIS_PREFIX="b", VISCPM_CHAT_WORKERS="1") as two,
        ):
            with Load(one.url, 2, 1, 1) as load_one, Load(two.url, 2, 1, 1) as load_two:
                wait_for(lambda: min(len(load_one.ended), len(load_two.ended)) > 60, 30.0, "answers of both")
            counts = settle(lambda: server, "a"), settle(lambda: server, "b")
            for load, accounting in zip((load_one, load_two), counts, strict=True):
                assert load.wrong == [] and set(load.results) == {"done"}
                assert accounting["done"] == accounting["accepted"] == load.results["done"]
            with one.client() as client, two.client() as other:
                talk = client.post("/chat", json={"question": "echo one"}).json()["conversation_id"]
                assert client.get(f"/conversations/{talk}").status_code == 200
                assert other.get(f"/conversations/{talk}").status_code == 404
                workers = client.get("/health/ready").json()["models"]["chat"]["workers"]
                assert len(workers) == 1, "it sees its own"
            keys = server.call("KEYS", "*")
            assert keys and all(key.startswith(("{a}:", "{b}:")) for key in keys)
    finally:
        server.kill()


def report(load: Load, counts: dict[str, int], back: list[tuple[str, float]]) -> None:
    """For who reads the test's output."""
    took = ", ".join(f"{how} {taken_s:.2f} s" for how, taken_s in back)
    print(f"\nclients: {dict(load.results)}; server: {counts}; answers were back after: {took or 'no failover'}")


@contextlib.contextmanager
def tls_in_front_of(server: RedisProcess) -> Iterator[int]:
    """The port of a proxy that ends TLS and asks for a certificate of the tests' authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(TLS / "server.pem")
    context.load_verify_locations(TLS / "ca.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    loop = asyncio.new_event_loop()

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection(*server.address)
        await asyncio.gather(pass_on(reader, inner_writer), pass_on(inner_reader, writer))

    listening = loop.run_until_complete(asyncio.start_server(serve, "127.0.0.1", 0, ssl=context))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield listening.sockets[0].getsockname()[1]
    finally:
        loop.call_soon_threadsafe(listening.close)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0.1))
        loop.close()
