"""RunFuture: a run that goes on."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

from ..errors import FlowgraphError, RunCancelledError
from ..graph.location import shorten
from ..runtime import Run

if TYPE_CHECKING:
    from concurrent.futures import Future


class RunFuture:
    """A run that goes on; made by ``session.run_async``. May be awaited."""

    def __init__(self, future: Future[list[Any]], run: Run, names: Callable[[list[Any]], Any]) -> None:
        self._future, self._run, self._names = future, run, names

    def result(self, timeout: float | None = None) -> Any:
        """The fetched values, once they are there. raises what the run raised; TimeoutError when it takes longer to come."""
        try:
            return self._names(self._future.result(timeout))
        except FlowgraphError as error:
            shorten(error)
            raise

    def cancel(self) -> None:
        """Ends the run within the time of the kernels that run now; ``result`` then raises RunCancelledError."""
        self._run.cancel(RunCancelledError("the run was cancelled", help="nothing was written to any variable"))

    def done(self) -> bool:
        """Whether it is over."""
        return self._future.done()

    def __await__(self) -> Generator[Any, None, Any]:
        import asyncio  # 15 ms that most programs do without

        try:
            values = yield from asyncio.wrap_future(self._future).__await__()
        except FlowgraphError as error:
            shorten(error)
            raise
        return self._names(values)
