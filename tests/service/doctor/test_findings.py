"""A problem has a cause and a fix; the rest has none."""

from service.doctor.findings import note, ok, problem


def test_levels() -> None:
    assert [make("disk", "full").level for make in (ok, note)] == ["ok", "note"]
    told = problem("disk", "full", "logs", "make room")
    assert (told.level, told.cause, told.fix) == ("problem", "logs", "make room")
