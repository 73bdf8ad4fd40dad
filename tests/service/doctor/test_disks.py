"""Folders that can be written, and some that cannot; a full one is in test_cli.py."""

from pathlib import Path

from service.core.settings import Settings
from service.doctor.disks import check_disks


def test_room_is_told_also_of_a_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    told = check_disks(Settings(data_dir=tmp_path / "not" / "yet", embedded_max_memory_bytes=2**20))[1]
    assert told.level == "ok" and f"free in {tmp_path / 'not' / 'yet'} (the embedded server's data)" in told.found


def test_a_server_that_may_outgrow_the_disk_is_noted(tmp_path: Path) -> None:
    told = check_disks(Settings(data_dir=tmp_path, embedded_max_memory_bytes=10**16))[1]
    assert told.level == "note" and "VISCPM_EMBEDDED_MAX_MEMORY_BYTES lets it grow to 10000000.0 GB" in told.found


def test_a_file_in_the_place_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    audit = tmp_path / "file" / "logs" / "audit.jsonl"
    temporary, told = check_disks(Settings(redis_url="redis://h", safety_audit_file=str(audit)))
    assert temporary.level == "ok"
    assert told.level == "problem" and "VISCPM_SAFETY_AUDIT_FILE" in told.fix
