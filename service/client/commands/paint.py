"""`viscpm paint`: pictures of a prompt, as files named by their seeds."""

import argparse
from collections.abc import Sequence

from service.client.arguments import Parser, add_service_flags, given, positive
from service.client.command import run_command, service_of
from service.client.events import begin, cancelled_with_us
from service.client.paintings import follow_painting, num_previews, tell_pictures
from service.client.picture_files import PictureFolder
from service.core.settings import Settings

_FIELDS = (
    "n",
    "candidates",
    "negative_prompt",
    "sampler",
    "num_inference_steps",
    "guidance_scale",
    "size",
    "seed",
)


def main(arguments: Sequence[str]) -> int:
    return run_command(parser(), arguments, _run, is_intermixed=True)


def parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="viscpm paint",
        description="Have a running service paint. Steps and the time left are shown on the standard error, and "
        "previews on terminals that show pictures (kitty, iTerm2, sixel).",
    )
    parser.add_argument("prompt", metavar="PROMPT")
    parser.add_argument(
        "-o", "--output", default=".", metavar="DIR",
        help="folder for SEED.png (.); or one file's name: .png, .jpg or .webp",
    )  # fmt: skip
    parser.add_argument("-n", type=positive, metavar="N", help="pictures wanted (1)")
    parser.add_argument("--candidates", type=positive, metavar="N", help="pictures painted, of which the best are told")
    parser.add_argument("--negative-prompt", metavar="TEXT")
    parser.add_argument("--sampler", metavar="NAME", help="ddpm, ddim, dpm++ or euler")
    parser.add_argument("--num-inference-steps", "--steps", type=int, metavar="N")
    parser.add_argument("--guidance-scale", type=float, metavar="X")
    parser.add_argument("--size", metavar="WIDTHxHEIGHT")
    parser.add_argument("--seed", type=int, help="of the first picture; the next ones' count on from it")
    add_service_flags(parser)
    return parser


def _run(options: argparse.Namespace, settings: Settings) -> int:
    folder = PictureFolder(options.output, options.n or 1)
    fields = {**given(options, *_FIELDS), "output_format": folder.format, "stream": True}
    previews = 0 if options.json else num_previews()
    with service_of(options, settings) as service:
        body = {**fields, "prompt": options.prompt, "partial_images": previews}
        job_id = begin(service, "/paint", body)
        with cancelled_with_us(service, job_id):
            pictures = follow_painting(service, job_id, options.prompt[:40], is_quiet=options.json)
    tell_pictures(pictures, folder, options.json)
    return 0
