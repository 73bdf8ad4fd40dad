"""Fields that were taken and have no effect: told in a header, counted by names that are known."""

import re
from collections.abc import Iterable

from starlette.responses import Response

from service.core.metrics import Metrics

HEADER = "x-ignored-parameters"
_MAX_NAMES = 32
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")

# What clients of the field send; other names are counted together
_KNOWN = frozenset(
    "background chat_template_kwargs enable_thinking frequency_penalty function_call functions include length_penalty "
    "logit_bias logprobs max_tokens max_tool_calls metadata min_p modalities moderation parallel_tool_calls prediction "
    "presence_penalty prompt_cache_key prompt_cache_retention quality reasoning reasoning_effort response_format "
    "safety_identifier service_tier store style temperature text thinking tool_choice tools top_k top_logprobs top_p "
    "truncation user verbosity web_search_options".split()
)


def tell_ignored(response: Response, names: Iterable[str], metrics: Metrics) -> Response:
    """The response with the header, where there is anything to tell. A name that fits no header is told as `other`."""
    told = list(dict.fromkeys(name if _NAME.fullmatch(name) else "other" for name in names))
    for name in told:
        metrics.count("ignored_parameters_total", parameter=name if name in _KNOWN else "other")
    if told:
        more = [f"and {len(told) - _MAX_NAMES} more"] if len(told) > _MAX_NAMES else []
        response.headers[HEADER] = ", ".join([*told[:_MAX_NAMES], *more])
    return response
