"""What asks in the field, with its default settings: Java's HTTP client, curl."""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from service.core.settings import Settings
from tests.debian import absent
from tests.service.tree import WorkerProcess, quick_settings
from tests.service.web import Service, encoded, serving

_JAVA = """
import java.io.ByteArrayInputStream;
import java.net.URI;
import java.net.http.*;
import java.nio.charset.StandardCharsets;

public class Ask {
  public static void main(String[] arguments) throws Exception {
    HttpClient client = HttpClient.newHttpClient();
    byte[] body = arguments[1].getBytes(StandardCharsets.UTF_8);
    HttpRequest.BodyPublisher[] publishers = {
      HttpRequest.BodyPublishers.ofByteArray(body),
      HttpRequest.BodyPublishers.ofInputStream(() -> new ByteArrayInputStream(body)),  // chunked
      HttpRequest.BodyPublishers.ofByteArray(body),
    };
    for (HttpRequest.BodyPublisher publisher : publishers) {
      HttpRequest request = HttpRequest.newBuilder(URI.create(arguments[0]))
          .header("Content-Type", "application/json").POST(publisher).build();
      System.out.println(client.send(request, HttpResponse.BodyHandlers.ofString()).body());
    }
  }
}
"""


@pytest.fixture
def settings(redis_url: str) -> Settings:
    return quick_settings(redis_url, paint_engine="tests.service.painter:create_engine", root_path="/viscpm")


@pytest.fixture
def workers(settings: Settings, tmp_path: Path) -> Iterator[None]:
    started = [WorkerProcess(settings, tmp_path / "engine.log", kind, step_s=0.002) for kind in ("chat", "paint")]
    yield
    for worker in started:
        worker.kill()


@pytest.fixture
async def service(settings: Settings, workers: None) -> AsyncIterator[Service]:
    async with serving(settings) as served:
        await served.ready()
        yield served


async def _output(*command: str) -> str:
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    told, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0
    return told.decode()


async def test_java_with_its_default_settings(
    service: Service, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    if shutil.which("javac") is None:
        absent("a JDK: apt-get install default-jdk-headless")
    program = tmp_path / "Ask.java"
    program.write_text(_JAVA)
    body = json.dumps({"question": "echo 爪哇", "image": encoded()})
    told = await _output("java", "-Xmx64m", "-Dfile.encoding=UTF-8", str(program), f"{service.url}/chat", body)
    assert [json.loads(line)["answer"] for line in told.splitlines()] == ["爪哇"] * 3
    assert not [record for record in caplog.records if "upgrade" in record.getMessage().lower()]


async def test_curl_that_offers_http_2(service: Service) -> None:
    if shutil.which("curl") is None:
        absent("curl: apt-get install curl")
    told = await _output("curl", "-s", "--http2", "--noproxy", "*", "-F", "question=echo 卷曲", f"{service.url}/chat")
    assert json.loads(told)["answer"] == "卷曲"
