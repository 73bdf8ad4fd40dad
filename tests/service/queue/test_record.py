"""A job's record: from the hash's values to the struct, and endings that come back as they were."""

from typing import Any, get_args

import msgspec
import pytest

from service.queue.record import (
    END_STATES,
    RECORD_FIELDS,
    Ending,
    EndState,
    JobRecord,
    State,
    decode_ending,
    encode_ending,
    error_ending,
    read_record,
)
from tests.service.tree import ApiSide, make_job


def values(**fields: bytes) -> list[bytes | None]:
    return [fields.get(name) for name in RECORD_FIELDS]


@pytest.mark.parametrize("ending", [Ending("done", body=bytes(range(256))), Ending("failed", "code", "Grund: 失败")])
def test_an_ending_comes_back_as_it_was(ending: Ending) -> None:
    assert decode_ending(encode_ending(ending)) == ending


@pytest.mark.parametrize(
    ("code", "state"),
    [
        ("invalid_image", "refused"),
        ("context_length_exceeded", "refused"),
        ("conversation_not_found", "refused"),
        ("conversation_busy", "refused"),
        ("unprocessable_media", "refused"),
        ("cancelled", "cancelled"),
        ("safety_unavailable", "failed"),
        ("deadline_exceeded", "failed"),
        ("out_of_memory", "failed"),
        ("a code of some engine", "failed"),
        ("", "failed"),
    ],
)
def test_whose_fault_an_error_is_tells_how_its_job_ends(code: str, state: str) -> None:
    assert error_ending(code, "why") == Ending(state, code, "why")  # type: ignore[arg-type]


def test_a_state_that_is_no_end_is_no_ending() -> None:
    with pytest.raises(msgspec.ValidationError, match="running"):
        decode_ending(msgspec.msgpack.encode({"state": "running"}))


def test_a_job_that_is_not_there_is_none() -> None:
    assert read_record(values()) is None


def test_what_has_not_happened_yet_is_zero() -> None:
    record = read_record(values(kind=b"paint", state=b"reserved", created_ms=b"5"))
    assert record == JobRecord(kind="paint", state="reserved", created_ms=5)


def test_every_field_is_read() -> None:
    ending = Ending("refused", "content_filter")
    texts = {"kind": b"chat", "state": b"refused", "tenant": b"t", "owner": b"api-1", "intent": b"\x80"}
    numbers = {name: b"%d" % place for place, name in enumerate(RECORD_FIELDS) if name not in (*texts, "ending")}
    record = read_record(values(**texts, **numbers, ending=encode_ending(ending)))
    assert record is not None
    told: dict[str, Any] = {name: getattr(record, name) for name in RECORD_FIELDS}
    assert told.keys() == set(JobRecord.__struct_fields__)
    assert told["ending"] == ending and told["intent"] == b"\x80" and told["owner"] == "api-1"
    assert {name: told[name] for name in numbers} == {name: int(number) for name, number in numbers.items()}


@pytest.mark.parametrize("state", get_args(State))
def test_every_state_can_be_read(state: str) -> None:
    record = read_record(values(kind=b"safety", state=state.encode()))
    assert record is not None and record.state == state


def test_ends_are_states() -> None:
    assert get_args(EndState) == END_STATES and set(END_STATES) < set(get_args(State))


async def test_times_are_the_servers_and_in_order(api: ApiSide) -> None:
    await api.producer.reserve("chat", "a", "tenant-1")
    reserved = await api.producer.record("a")
    assert reserved is not None and reserved.created_ms > 0 and reserved.queued_ms == reserved.ended_ms == 0
    await api.producer.submit(make_job("chat", "a", "q"), Ending("done"))  # any struct: kept until the end
    queued = await api.producer.record("a")
    assert queued is not None and queued.intent and queued.created_ms <= queued.queued_ms < queued.deadline_ms
    await api.producer.cancel("a", "test_over")
    ended = await api.producer.record("a")
    assert ended is not None and ended.queued_ms <= ended.ended_ms and ended.intent == b""
    assert ended.ending is not None and (ended.ending.state, ended.ending.code) == ("cancelled", "test_over")
    assert (ended.tenant, ended.owner) == ("tenant-1", api.process_id)
