"""What is done of a batch, on disk: a line for each result as it comes, until all are there to be put in order.

A process that is killed between two writes leaves whole lines but for the last, which is cut off and sent again: with
the same Idempotency-Key, so that the service answers it from the job that there is. Two processes cannot write one.
"""

import fcntl
import json
import os
import secrets
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from service.client.batches.lines import RequestFile
from service.client.exit_codes import CommandError, UsageError

_VERSION = 1


class Journal:
    """The journal beside a file of results; `done` has the numbers of lines with a result.

    Raises:
        UsageError: of one of another file of requests, or where the results are there already.
        CommandError: where it cannot be written, or another process has it.
    """

    def __init__(self, requests: RequestFile, results: Path) -> None:
        self._requests = requests
        self._results = results
        self._path = results.with_name(f"{results.name}.journal")
        self._offsets: dict[int, int] = {}
        if results.exists() and not self._path.exists():
            raise UsageError(f"{results} is there already: name another file with -o, or delete it")
        try:
            self._file: IO[bytes] = open(self._path, "a+b", buffering=0)
        except OSError as error:
            raise CommandError(f"{self._path}: {error.strerror}") from None
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._run = self._read() or self._begin()
        except BlockingIOError:
            self._file.close()
            raise CommandError(f"{self._path}: another process works on it") from None
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()

    @property
    def done(self) -> set[int]:
        return set(self._offsets)

    def key(self, number: int) -> str:
        """The line's Idempotency-Key: the same however often the batch is begun again."""
        return f"{self._run}:{number}"

    def add(self, number: int, result: dict[str, Any]) -> None:
        offset = self._file.seek(0, os.SEEK_END)
        self._write({"line": number, "result": result})
        self._offsets[number] = offset

    def finish(self) -> None:
        """Put the results in the order of their lines where they belong; the journal is gone."""
        unfinished = self._results.with_name(f"{self._results.name}.part")
        try:
            with unfinished.open("wb") as file:
                for line in self._requests.lines:
                    file.write(json.dumps(self._result(line.number), ensure_ascii=False).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
            os.replace(unfinished, self._results)
            self._path.unlink()
        except OSError as error:
            raise CommandError(f"{error.filename or self._results}: {error.strerror}") from None

    def _result(self, number: int) -> dict[str, Any]:
        self._file.seek(self._offsets[number])
        with os.fdopen(os.dup(self._file.fileno()), "rb") as buffered:
            result: dict[str, Any] = json.loads(buffered.readline())["result"]
        return result

    def _read(self) -> str:
        """The run that began it; empty where nobody has, or nothing came of it and the requests were changed since."""
        self._file.seek(0)
        head: dict[str, Any] = {}
        end = 0
        with os.fdopen(os.dup(self._file.fileno()), "rb") as buffered:
            for text in buffered:
                if not text.endswith(b"\n"):
                    break
                read = json.loads(text)
                if end:
                    self._offsets[read["line"]] = end
                else:
                    head = read
                end += len(text)
        is_ours = head.get("version") == _VERSION and head.get("sha256") == self._requests.sha256
        if self._offsets and not is_ours:
            raise UsageError(
                f"{self._path} is of another file than {self._requests.path} is now: name another file with -o, "
                "or delete the journal to begin anew"
            )
        self._file.truncate(end if is_ours else 0)
        return str(head["run"]) if is_ours else ""

    def _begin(self) -> str:
        run = secrets.token_hex(12)
        self._write({"version": _VERSION, "run": run, "sha256": self._requests.sha256})
        return run

    def _write(self, value: dict[str, Any]) -> None:
        data = json.dumps(value, ensure_ascii=False).encode() + b"\n"
        try:
            while data:
                data = data[self._file.write(data) :]
        except OSError as error:
            raise CommandError(f"{self._path}: {error.strerror}") from None
