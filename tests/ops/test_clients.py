"""What asks in the field, with its default settings: Java's HTTP client, curl."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.debian import absent
from tests.service.api_process import ApiProcess, api_process
from tests.service.web import encoded

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


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiProcess]:
    with api_process(tmp_path_factory.mktemp("asked")) as running:
        yield running


def _output(*command: str) -> str:
    return subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=100).stdout.decode()


def test_java_with_its_default_settings(api: ApiProcess, tmp_path: Path) -> None:
    if shutil.which("javac") is None:
        absent("a JDK: apt-get install default-jdk-headless")
    program, before = tmp_path / "Ask.java", api.log
    program.write_text(_JAVA)
    body = json.dumps({"question": "echo 爪哇", "image": encoded()})
    told = _output("java", "-Xmx64m", "-Dfile.encoding=UTF-8", str(program), f"{api.url}/chat", body)
    assert [json.loads(line)["answer"] for line in told.splitlines()] == ["爪哇"] * 3
    assert api.log == before, "an offer of another protocol is nothing to log"


def test_curl_that_offers_http_2(api: ApiProcess) -> None:
    if shutil.which("curl") is None:
        absent("curl: apt-get install curl")
    told = _output("curl", "-s", "--http2", "--noproxy", "*", "-F", "question=echo 卷曲", f"{api.url}/chat")
    assert json.loads(told)["answer"] == "卷曲"
