"""A small server of OpenAI's protocol over a local model: real HTTP, and as stubborn as a test wants it."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from draftproof.drafting.language_models.local import LocalLanguageModel
from draftproof.language_model import Context, Decoding, Message, Piece, Request, StopCause


@dataclass
class Served:
    """What the server has and does."""

    model: LocalLanguageModel
    completions: bool = True
    chat: bool = True
    most_logprobs: int = 20
    """0: it does not know the option; -1: it takes it and tells nothing."""
    echo: bool = True
    refusal: int = 400
    """The status that it refuses options with."""
    tells_stop: bool = True
    goes_on: bool = True
    key: str = ""
    lists_models: bool = True
    garbage: bytes | None = None
    """Sent instead of every answer to a POST."""
    kind: str = "application/json"
    delay: threading.Event | None = None
    alter: Any = None
    """Called with each answer before it is sent."""
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    url: str = ""


class Refused(Exception):
    def __init__(self, status: int, message: str) -> None:
        self.status, self.message = status, message


@contextmanager
def serving(served: Served) -> Iterator[Served]:
    """The server's address is in `url`."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = 2**16  # head and body in one packet

        def log_message(self, *args: object) -> None: ...

        def do_GET(self) -> None:
            self._answered(lambda body: models(served), {})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            served.asked.append((self.path, body))
            if served.delay is not None:
                served.delay.wait(10)
            if served.garbage is not None:
                self._send(200, served.garbage)
                return
            routes = {"/v1/completions": completions, "/v1/chat/completions": chat}
            self._answered(lambda body: routes[self.path](served, body), body)

        def _answered(self, answer: Any, body: dict[str, Any]) -> None:
            try:
                if served.key and self.headers["Authorization"] != f"Bearer {served.key}":
                    raise Refused(401, f"wrong key: {self.headers['Authorization']}")
                if "model" in body and body["model"] != "tiny":
                    raise Refused(404, f"no model {body['model']}")
                made = answer(body)
                status = 200
            except Refused as refused:
                status, made = refused.status, {"error": {"message": refused.message, "type": "invalid"}}
            except ValueError as error:
                status, made = 400, {"error": {"message": f"maximum context length: {error}"}}
            if served.alter is not None and status == 200:
                made = served.alter(made)
            self._send(status, json.dumps(made).encode())

        def _send(self, status: int, data: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", served.kind)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    served.url = f"http://127.0.0.1:{server.server_port}/v1"
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def models(served: Served) -> Any:
    if not served.lists_models:
        raise Refused(404, "no list")
    return {"data": [{"id": "tiny"}, {"id": "other"}]}


def completions(served: Served, body: dict[str, Any]) -> Any:
    if not served.completions:
        raise Refused(404, "no completions")
    if body.get("echo") and not served.echo:
        raise Refused(served.refusal, "no echo")
    context = Context((), (Piece(body["prompt"]),))
    answer, usage, choice = generated(served, context, body)
    logprobs = asked_logprobs(served, body, "logprobs")
    if logprobs > 0:
        vocabulary = served.model.loaded.vocabulary
        top = served.model.first_token([context], logprobs)[0].top
        told = {
            "tokens": [vocabulary.decode([token]) for token in answer.ids],
            "token_logprobs": list(answer.logprobs),
            "top_logprobs": [dict(logged(top))],
            "text_offset": [],
        }
        if body.get("echo"):
            told = echoed(served, body["prompt"])
        choice["logprobs"] = told
    if body.get("echo"):
        choice["text"] = body["prompt"] + choice["text"]
    return {"choices": [choice], "usage": usage}


def chat(served: Served, body: dict[str, Any]) -> Any:
    if not served.chat:
        raise Refused(404, "no chat")
    messages = tuple(Message(each["role"], each["content"]) for each in body["messages"])
    if "continue_final_message" in body and not served.goes_on:
        raise Refused(served.refusal, "unknown option continue_final_message")
    context = Context(messages)
    if body.get("continue_final_message"):
        context = Context(messages[:-1], (Piece(messages[-1].content),))
    answer, usage, choice = generated(served, context, body)
    choice["message"] = {"role": "assistant", "content": choice.pop("text")}
    logprobs = asked_logprobs(served, body, "top_logprobs")
    if logprobs > 0:
        top = served.model.first_token([context], logprobs)[0].top
        tokens = [{"token": "", "logprob": value, "top_logprobs": []} for value in answer.logprobs]
        tokens[0]["top_logprobs"] = [{"token": text, "logprob": value} for text, value in logged(top)]
        choice["logprobs"] = {"content": tokens}
    return {"choices": [choice], "usage": usage}


def generated(served: Served, context: Context, body: dict[str, Any]) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    decoding = Decoding(body.get("temperature", 1.0), body.get("top_k", 0), body.get("top_p", 1.0), body.get("seed", 0))
    request = Request(context, body["max_tokens"], tuple(body.get("stop", ())), decoding)
    (answer,) = served.model.generate([request])
    text = answer.text.partition(answer.stopped_by)[0] if answer.stopped_by else answer.text  # as servers do
    ended = answer.cause in (StopCause.STOP, StopCause.END)
    choice: dict[str, Any] = {
        "index": 0,
        "text": text,
        "finish_reason": "stop" if ended else "length",
        "logprobs": None,
    }
    if served.tells_stop:
        choice["stop_reason"] = answer.stopped_by or None
    usage = {
        "prompt_tokens": answer.prompt_tokens,
        "completion_tokens": answer.tokens,
        "prompt_tokens_details": {"cached_tokens": answer.cached_tokens},
    }
    return answer, usage, choice


def asked_logprobs(served: Served, body: dict[str, Any], key: str) -> int:
    asked = int(body.get(key) or 0)
    if asked and served.most_logprobs >= 0 and asked > served.most_logprobs:
        raise Refused(served.refusal, f"{key} is at most {served.most_logprobs}")
    return asked if served.most_logprobs > 0 else 0


def logged(top: Any) -> list[tuple[str, float]]:
    return [(text, math.log(chance)) for text, chance in top]


def echoed(served: Served, prompt: str) -> dict[str, Any]:
    vocabulary = served.model.loaded.vocabulary
    ids = vocabulary.encode(prompt)
    size = next(n for n in range(1, len(ids) + 1) if "\ufffd" not in vocabulary.decode(ids[:n]))
    first = vocabulary.decode(ids[:size])  # whole characters, of which the model says nothing
    (read,) = served.model.read([Context((), (Piece(first),))], [prompt[len(first) :]])
    begins = [*([0] * size), *(len(first) + end for end in (0, *read.ends[:-1]))]
    tokens = [vocabulary.decode([token]) for token in ids]
    return {
        "tokens": tokens,
        "token_logprobs": [None, *([-1.0] * (size - 1)), *read.logprobs],
        "text_offset": begins,
        "top_logprobs": None,
    }
