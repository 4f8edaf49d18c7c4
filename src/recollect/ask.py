"""Asking a model: pieces and the whole answer, and whatever it raises as a `ModelError`."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from recollect.errors import ModelError, RecollectError
from recollect.message import Message
from recollect.port import Delta, Model, ModelRequest, Reply, World

log = logging.getLogger("recollect")


async def answers(model: Model, request: ModelRequest, world: World) -> AsyncGenerator[Delta | Reply, None]:
    """What the model says, piece by piece, the whole answer last.

    Raises:
        ModelError: it failed to answer.
    """
    pieces: AsyncIterator[Delta | Reply] | None = None
    try:
        pieces = model.ask(request, world)
        async for piece in pieces:
            yield _known(piece)
    except RecollectError:
        raise
    except Exception as error:  # an adapter may raise its vendor's errors
        msg = f"model {model.id!r} failed: {type(error).__name__}: {error}"
        raise ModelError(msg) from error
    finally:
        await _close(pieces)


def _known(piece: object) -> Delta | Reply:
    """A piece of an answer.

    Raises:
        TypeError: it is none.
    """
    if isinstance(piece, Delta) or (isinstance(piece, Reply) and isinstance(piece.message, Message)):
        return piece
    msg = f"its adapter gave {piece!r}, which is neither a Delta nor a Reply with a Message"
    raise TypeError(msg)


async def _close(pieces: object) -> None:
    """Let the model go. What goes wrong in that changes nothing any more: it has answered, failed or been left."""
    closing = getattr(pieces, "aclose", None)
    try:
        if closing is not None:
            await closing()
    except Exception as error:  # noqa: BLE001 - an adapter may fail in any way
        log.debug("a model's answer could not be closed: %r", error)


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
