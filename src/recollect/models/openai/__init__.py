"""OpenAI's models through its own SDK: the Responses API, and Chat Completions of any compatible server.

The conversation lives here, not at the provider: every request carries all of it, and the provider stores nothing. What
a model thought comes encrypted; it stays in the ``provider_data`` of the message, under the name of provider and model,
and goes back to the same model directly before what it led to.
https://platform.openai.com/docs/guides/reasoning#encrypted-reasoning-items
"""

from recollect.models.openai.chat import OpenAIChat
from recollect.models.openai.options import ChatOptions, ClientOptions, ResponsesOptions
from recollect.models.openai.responses import OpenAIResponses

__all__ = ["ChatOptions", "ClientOptions", "OpenAIChat", "OpenAIResponses", "ResponsesOptions"]
