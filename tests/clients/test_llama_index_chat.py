"""LlamaIndex' OpenAILike, in a folder of its own: it needs an older version of OpenAI's package than the others.

It is installed into build/, by pip, the first time.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.clients.openai_bodies import DATA_URL
from tests.service.api_process import ApiProcess

pytestmark = [pytest.mark.clients, pytest.mark.xdist_group("api"), pytest.mark.timeout(600)]

PACKAGE = "llama-index-llms-openai-like==0.8.1"
INSTALLED = Path(__file__).parents[2] / "build" / "clients-llama-index"
TALK = """
import base64, json, os
from llama_index.core.llms import ChatMessage, ImageBlock, TextBlock
from llama_index.llms.openai_like import OpenAILike

model = OpenAILike(
    model="gpt-4o", api_base=os.environ["BASE_URL"], api_key="none", is_chat_model=True, max_retries=0
)
picture = ImageBlock(image=base64.b64decode(os.environ["PICTURE"].split(",")[1]))
asked = [ChatMessage(role="user", blocks=[TextBlock(text="stream 3"), picture])]
print(json.dumps([model.chat(asked).message.content, "".join(one.delta or "" for one in model.stream_chat(asked))]))
"""


def test_a_picture_question_plain_and_streamed(api: ApiProcess) -> None:
    if not (INSTALLED / "llama_index").exists():
        command = [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-compile",
            "--target",
            str(INSTALLED),
            PACKAGE,
        ]
        subprocess.run(command, check=True, timeout=500)
    environment = {**os.environ, "PYTHONPATH": str(INSTALLED), "BASE_URL": f"{api.url}/v1", "PICTURE": DATA_URL}
    done = subprocess.run(
        [sys.executable, "-c", TALK], env=environment, capture_output=True, text=True, timeout=90, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == ["w0 w1 w2 ", "w0 w1 w2 "]
