"""LitServe doing what our echo service does: POST /echo {"text"} and POST /chat {"image", "question"}.

`python -m benchmarks.litserve_echo PORT`
"""

import base64
import io
import sys

import litserve
from PIL import Image

SIDE_PX = 224


class Echo(litserve.LitAPI):
    """Answers with the text."""

    def setup(self, device: str) -> None:
        pass

    def decode_request(self, request: dict[str, str]) -> str:
        return request["text"]

    def predict(self, text: str) -> str:
        return text

    def encode_response(self, output: str) -> dict[str, str]:
        return {"output": output}


class PictureEcho(Echo):
    """Answers with the question, after the work on the picture that ours does."""

    def decode_request(self, request: dict[str, str]) -> str:
        picture = Image.open(io.BytesIO(base64.b64decode(request["image"]))).convert("RGB")
        picture.resize((SIDE_PX, SIDE_PX), Image.Resampling.BICUBIC).tobytes()
        return request["question"]


if __name__ == "__main__":
    apis = [Echo(api_path="/echo"), PictureEcho(api_path="/chat")]
    server = litserve.LitServer(apis, accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False, log_level="warning")
