"""A chat model behind an OpenAI-compatible address: vLLM, llama.cpp, Ollama, or a paid service."""

from __future__ import annotations

import base64
import io
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from torchnle.methods.dissect.candidates import prompts
from torchnle.methods.dissect.candidates.cleaning import clean_labels
from torchnle.methods.dissect.candidates.prompts import Message
from torchnle.methods.dissect.exemplars.exemplar import Exemplar

#: Answers of a server after which asking again may help.
_AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})


@dataclass
class Usage:
    """The number of requests and tokens that a server has processed so far.

    Args:
        calls: The number of answered requests.
        prompt_tokens: The number of prompt tokens, as the server counts them.
        answer_tokens: The number of generated tokens.

    Example:
        >>> Usage(3, 1_000_000, 2000).line(prompt_price=0.5, answer_price=1.5)
        '3 calls, 1000000 + 2000 tokens, 0.503'
    """

    calls: int = 0
    prompt_tokens: int = 0
    answer_tokens: int = 0

    def line(self, *, prompt_price: float = 0.0, answer_price: float = 0.0) -> str:
        """Format the usage and its cost, at prices per million tokens."""
        cost = (self.prompt_tokens * prompt_price + self.answer_tokens * answer_price) / 1e6
        return f"{self.calls} calls, {self.prompt_tokens} + {self.answer_tokens} tokens, {cost:.3f}"


@dataclass
class ServedChat:
    """Answers conversations through an OpenAI-compatible address.

    Args:
        address: The server's address, up to and including "/v1".
        model: The model's name on the server.
        key: The access key; None = that of the environment variable OPENAI_API_KEY, or none.
        temperature: The temperature of sampling (the paper's code: 0.3).
        max_tokens: The largest number of tokens of an answer.
        timeout: Seconds to wait for one answer.
        retries: The largest number of repetitions after a timeout, a lost connection or a busy server.
        pause: Seconds before the first repetition; doubled each time.

    Example:
        >>> chat = ServedChat("http://localhost:8000/v1", "llama")  # doctest: +SKIP
    """

    address: str
    model: str
    key: str | None = field(default=None, repr=False)
    temperature: float = 0.3
    max_tokens: int = 32
    timeout: float = 60.0
    retries: int = 3
    pause: float = 1.0
    usage: Usage = field(default_factory=Usage)

    @property
    def fingerprint(self) -> str:
        """The identity of everything that its answers depend on, as far as it is known."""
        return f"{self.address} {self.model} {self.temperature} {self.max_tokens}"

    def __call__(self, messages: Sequence[Message], number: int) -> str:
        """Answer a conversation.

        Raises:
            TimeoutError: If no answer came in time, in any of the tries.
            ConnectionError: If the server refuses, cannot be reached, or answers with something else.
        """
        return self._answer([dict(message) for message in messages], number)

    def look(self, exemplars: Sequence[Exemplar], count: int, seed: int = 0) -> list[str]:
        """Ask a multimodal model, given the exemplars' images, for several labels in one answer (A.4.4).

        Raises:
            TimeoutError: If no answer comes in time, after all retries.
            ConnectionError: If the server cannot be reached or refuses.
        """
        parts: list[dict[str, Any]] = [{"type": "text", "text": prompts.look(count)}]
        parts += [{"type": "image_url", "image_url": {"url": _data_url(each)}} for each in exemplars]
        answer = self._answer([{"role": "user", "content": parts}], seed)
        return clean_labels(answer.splitlines())[:count]

    def _answer(self, messages: list[dict[str, Any]], number: int) -> str:
        payload = {
            "model": self.model,
            "messages": messages,
            "temperature": self.temperature,
            "max_tokens": self.max_tokens,
            "seed": number,
        }
        problem: Exception | None = None
        for attempt in range(self.retries + 1):
            if attempt:
                time.sleep(self.pause * 2 ** (attempt - 1))
            try:
                return self._read(self._post(payload))
            except urllib.error.HTTPError as error:
                if error.code not in _AGAIN:
                    raise ConnectionError(f"{self.address} answered {error.code} {error.reason}.") from error
                problem = error
            except (TimeoutError, urllib.error.URLError, ConnectionResetError) as error:
                problem = error
        raise self._failed(problem) from problem

    def _failed(self, problem: Exception | None) -> Exception:
        reason = getattr(problem, "reason", problem)
        tries = f"in {self.retries + 1} tries"
        if isinstance(problem, TimeoutError) or isinstance(reason, TimeoutError):
            return TimeoutError(f"{self.address} gave no answer within {self.timeout} s, {tries}.")
        return ConnectionError(f"{self.address} gave no answer {tries}: {reason}.")

    def _post(self, payload: dict[str, Any]) -> Any:
        headers = {"Content-Type": "application/json"}
        if key := self.key or os.environ.get("OPENAI_API_KEY"):
            headers["Authorization"] = f"Bearer {key}"
        request = urllib.request.Request(
            f"{self.address.rstrip('/')}/chat/completions", json.dumps(payload).encode(), headers
        )
        with urllib.request.urlopen(request, timeout=self.timeout) as answer:
            return json.loads(answer.read())

    def _read(self, answer: Any) -> str:
        try:
            text = answer["choices"][0]["message"]["content"]
        except (KeyError, IndexError, TypeError) as error:
            raise ConnectionError(f"{self.address} answered in another form: {str(answer)[:200]}") from error
        used = answer.get("usage") or {}
        self.usage.calls += 1
        self.usage.prompt_tokens += int(used.get("prompt_tokens") or 0)
        self.usage.answer_tokens += int(used.get("completion_tokens") or 0)
        return text if isinstance(text, str) else ""


def _data_url(exemplar: Exemplar) -> str:
    content = io.BytesIO()
    exemplar.picture.convert("RGB").save(content, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(content.getvalue()).decode()}"
