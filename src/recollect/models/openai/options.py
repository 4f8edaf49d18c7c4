"""What the adapters are built with: the SDK's clients, and the parameters of each request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict


class ClientOptions(TypedDict, total=False):
    """How the provider is reached; None is the same as not given."""

    provider: str
    """The name under which replies are stored; reasoning goes back only to the provider and model it came from."""
    api_key: str | None
    """Else OPENAI_API_KEY."""
    base_url: str | None
    """Else OPENAI_BASE_URL, else OpenAI itself."""
    organization: str | None
    project: str | None
    timeout: float | None
    """Seconds."""
    max_retries: int | None
    """Further tries after 408, 409, 429, 5xx and lost connections, as late as the provider asks for."""
    default_headers: Mapping[str, str] | None
    default_query: Mapping[str, object] | None
    http_client: Any
    """An HTTP client of the library that the SDK stands on; it stays yours to close."""
    async_http_client: Any
    """The same for async calls; it belongs to one event loop."""
    request_params: Mapping[str, Any] | None
    """Parameters of the API that are not named here; ``tools`` among them adds built-in tools."""


class ResponsesOptions(ClientOptions, total=False):
    """Request parameters of the Responses API; None is the same as not given.

    https://platform.openai.com/docs/api-reference/responses/create
    """

    temperature: float | None
    top_p: float | None
    top_logprobs: int | None
    max_output_tokens: int | None
    max_tool_calls: int | None
    reasoning: Mapping[str, Any] | None
    reasoning_effort: str | None
    """Short for ``reasoning={"effort": ...}``."""
    reasoning_summary: str | None
    """Short for ``reasoning={"summary": ...}``."""
    text: Mapping[str, Any] | None
    verbosity: str | None
    """Short for ``text={"verbosity": ...}``."""
    tool_choice: str | Mapping[str, Any] | None
    parallel_tool_calls: bool | None
    include: Sequence[str] | None
    truncation: str | None
    service_tier: str | None
    store: bool | None
    """False unless set: nothing here needs what the provider stores."""
    metadata: Mapping[str, str] | None
    user: str | None
    safety_identifier: str | None
    prompt_cache_key: str | None
    prompt_cache_retention: str | None
    extra_headers: Mapping[str, str] | None
    extra_query: Mapping[str, Any] | None
    extra_body: Mapping[str, Any] | None


class ChatOptions(ClientOptions, total=False):
    """Request parameters of Chat Completions; None is the same as not given.

    https://platform.openai.com/docs/api-reference/chat/create
    """

    temperature: float | None
    top_p: float | None
    logprobs: bool | None
    top_logprobs: int | None
    max_tokens: int | None
    max_completion_tokens: int | None
    frequency_penalty: float | None
    presence_penalty: float | None
    logit_bias: Mapping[str, int] | None
    seed: int | None
    stop: str | Sequence[str] | None
    reasoning_effort: str | None
    verbosity: str | None
    response_format: Mapping[str, Any] | None
    tool_choice: str | Mapping[str, Any] | None
    parallel_tool_calls: bool | None
    stream_options: Mapping[str, Any] | None
    service_tier: str | None
    store: bool | None
    metadata: Mapping[str, str] | None
    user: str | None
    safety_identifier: str | None
    prompt_cache_key: str | None
    prompt_cache_retention: str | None
    extra_headers: Mapping[str, str] | None
    extra_query: Mapping[str, Any] | None
    extra_body: Mapping[str, Any] | None
