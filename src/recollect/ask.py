"""Asking a model: pieces and the whole answer, and whatever it raises as a `ModelError`."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from recollect.errors import ModelError, RecollectError
from recollect.port import Delta, Model, ModelRequest, Reply, World


async def answers(model: Model, request: ModelRequest, world: World) -> AsyncGenerator[Delta | Reply, None]:
    """What the model says, piece by piece, the whole answer last.

    Raises:
        ModelError: it failed to answer.
    """
    pieces: AsyncIterator[Delta | Reply] = model.ask(request, world)
    try:
        async for piece in pieces:
            yield piece
    except RecollectError:
        raise
    except Exception as error:
        msg = f"model {model.id!r} failed: {type(error).__name__}: {error}"
        raise ModelError(msg) from error
    finally:
        closing = getattr(pieces, "aclose", None)
        if closing is not None:
            await closing()


async def whole_answer(model: Model, request: ModelRequest, world: World) -> Reply:
    """The model's whole answer.

    Raises:
        ModelError: it failed to answer, or ended without saying anything.
    """
    async with aclosing(answers(model, request, world)) as pieces:
        async for piece in pieces:
            if isinstance(piece, Reply):
                return piece
    raise nothing_said(model)


def nothing_said(model: Model) -> ModelError:
    """The error for an answer that ended before its end."""
    return ModelError(f"model {model.id!r} ended its answer without saying anything")
