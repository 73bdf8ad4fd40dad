"""What clients of the field send to a chat by default, written anew from what is known of each.

Open WebUI's questions are as version 0.12.4 sent them.
"""

import base64
from typing import Any

from tests.service.web import picture_bytes

DATA_URL = "data:image/png;base64," + base64.b64encode(picture_bytes(32, 24)).decode()


def text(said: str, role: str = "user") -> dict[str, Any]:
    return {"role": role, "content": said}


def seen(said: str, **detail: str) -> dict[str, Any]:
    parts = [{"type": "text", "text": said}, {"type": "image_url", "image_url": {"url": DATA_URL, **detail}}]
    return {"role": "user", "content": parts}


_WEATHER = {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}

_ATTACHED = {  # what it writes before a question whose picture was uploaded
    "type": "text",
    "text": '<attached_files>\n<file type="file" id="31af" content_type="image/png"/>\n</attached_files>\n\n',
}

COMPLETIONS: dict[str, dict[str, Any]] = {
    "Open WebUI, a question": {
        "stream": True,
        "model": "viscpm-chat-vision",
        "messages": [seen("echo x")],
    },
    "Open WebUI, a question with its tools": {  # its default
        "stream": True,
        "model": "gpt-4o",
        "messages": [
            text("You are a helpful assistant.", "system"),
            {"role": "user", "content": [_ATTACHED, *seen("echo x")["content"]]},
        ],
        "tools": [_WEATHER] * 36,
        "stream_options": {"include_usage": True},
    },
    "Open WebUI, after a painting": {
        "stream": True,
        "model": "viscpm-chat-vision",
        "max_tokens": 64,
        "messages": [
            text("<context>The requested image has been created and is now shown.</context>", "system"),
            text("red apple on a blue background"),
        ],
    },
    "Open WebUI, a title": {
        "model": "gpt-4o",
        "messages": [text("### Task:\nGenerate a concise title.\n<chat_history>\nUSER: hi\n</chat_history>")],
        "stream": False,
        "max_completion_tokens": 1000,
        "metadata": {"task": "title_generation"},
    },
    "Dify, the check of a model": {
        "model": "gpt-4o",
        "messages": [text("ping")],
        "max_tokens": 5,
        "stream": False,
    },
    "Dify, a question": {
        "model": "gpt-4o",
        "messages": [seen("echo x", detail="high")],
        "stream": True,
        "user": "a8f3",
        "stream_options": {"include_usage": True},
        "temperature": 0.7,
        "chat_template_kwargs": {"enable_thinking": False},
        "thinking": {"type": "disabled"},
        "enable_thinking": False,
    },
    "NextChat": {
        "messages": [text("Knowledge cutoff: unknown.", "system"), seen("echo x")],
        "stream": True,
        "model": "viscpm-chat-vision",
        "temperature": 0.5,
        "presence_penalty": 0,
        "frequency_penalty": 0,
        "top_p": 1,
        "max_tokens": 8000,
    },
    "LobeHub": {
        "messages": [text("echo earlier"), text("earlier", "assistant"), seen("echo x", detail="auto")],
        "model": "gpt-4o",
        "frequency_penalty": 0,
        "presence_penalty": 0,
        "temperature": 1,
        "top_p": 1,
        "stream": True,
        "stream_options": {"include_usage": True},
        "user": "user_1",
        "tools": None,
    },
    "Cherry Studio": {
        "model": "viscpm-chat",
        "messages": [text("", "system"), seen("echo x")],
        "temperature": 1.0,
        "top_p": 1,
        "max_tokens": 4096.0,
        "stream": True,
        "stream_options": {"include_usage": True},
        "service_tier": "auto",
        "verbosity": "medium",
    },
    "Cherry Studio, the check of a model": {
        "model": "viscpm-chat",
        "messages": [text("test", "system"), text("hi")],
        "stream": True,
        "stream_options": {"include_usage": True},
    },
    "new-api, the test of a channel": {"model": "gpt-4o", "messages": [text("hi")], "max_tokens": 16, "stream": False},
    "new-api, forwarding": {
        "model": "gpt-4o-mini",
        "messages": [seen("echo x")],
        "reasoning_effort": "low",
        "verbosity": "low",
        "top_k": 40,
        "temperature": 0.8,
        "enable_thinking": False,
        "user": "u",
        "parallel_tool_calls": True,
        "logprobs": False,
        "logit_bias": None,
    },
    "new-api, the streamed test of a channel": {
        "model": "gpt-4o",
        "stream": True,
        "messages": [text("hi")],
        "max_tokens": 16,
        "stream_options": {"include_usage": True},
    },
    "n8n": {
        "model": "gpt-4o",
        "messages": [text("echo x")],
        "n": 1,
        "temperature": 0.7,
        "response_format": {"type": "text"},
        "tool_choice": "auto",
    },
    "n8n, a picture analyzed": {
        "model": "gpt-4o",
        "messages": [seen("echo x", detail="auto")],
        "max_completion_tokens": 300,
    },
    "LibreChat, a title": {
        "model": "gpt-4o-mini",
        "user": "64f1",
        "stream": False,
        "messages": [text("Provide a concise, 5-word-or-less title for the conversation.\n\nConversation:\nUser: hi")],
    },
    "LibreChat": {
        "model": "gpt-4o",
        "user": "64f1",
        "stream": True,
        "messages": [text("Be kind.", "system"), seen("echo x", detail="auto")],
        "stream_options": {"include_usage": True},
        "functions": [],
        "function_call": "auto",
    },
    "SillyTavern, a caption": {
        "model": "gpt-4o",
        "messages": [seen("What's in this image?")],
    },
    "SillyTavern": {
        "messages": [
            text("Write the next reply.", "system"),
            text("Hello!", "assistant"),
            {**text("echo x"), "name": "Ann"},
        ],
        "model": "gpt-4o",
        "temperature": 1,
        "frequency_penalty": 0.2,
        "presence_penalty": 0,
        "top_p": 1,
        "max_tokens": 300,
        "max_completion_tokens": 300,
        "stream": True,
        "logit_bias": {},
        "stop": ["\nAnn:"],
        "seed": 7,
        "n": 1,
    },
}

RESPONSES: dict[str, dict[str, Any]] = {
    "n8n": {
        "model": "gpt-4o",
        "input": [
            {"role": "system", "content": "Be kind."},
            {"role": "user", "content": [{"type": "input_text", "text": "echo x"}]},
        ],
        "parallel_tool_calls": True,
        "store": True,
        "temperature": 1,
        "top_p": 1,
        "tools": [],
        "text": {"format": {"type": "text"}},
    },
    "n8n, a picture analyzed": {
        "model": "gpt-4o",
        "input": [
            {
                "role": "user",
                "content": [
                    {"type": "input_text", "text": "echo x"},
                    {"type": "input_image", "detail": "auto", "image_url": DATA_URL},
                ],
            }
        ],
        "max_output_tokens": 300,
    },
    "new-api, the test of a channel": {
        "model": "gpt-4o",
        "input": [{"role": "user", "content": "hi"}],
        "stream": False,
    },
    "new-api, the streamed test of a channel": {
        "model": "gpt-4o",
        "input": [{"role": "user", "content": "hi"}],
        "stream": True,
    },
    "an SDK with a picture": {
        "model": "gpt-4o",
        "input": [
            {
                "role": "user",
                "content": [
                    {"type": "input_text", "text": "echo x"},
                    {"type": "input_image", "image_url": DATA_URL, "detail": "auto"},
                ],
            }
        ],
        "include": ["reasoning.encrypted_content"],
        "stream": True,
    },
}
