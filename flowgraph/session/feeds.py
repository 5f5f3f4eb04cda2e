"""Feeds: what a session's runs are given, as arrays that fit their tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..devices import Device
from ..errors import FeedError
from ..graph import Graph, Shape, Tensor
from ..graph.report import of_another_graph
from .values import adopted, as_fed, check_shape, check_symbols, is_on_gpu


class Feeds:
    """Makes feeds fit the tensors of ``graph``, for runs on ``devices``. Holds no feed."""

    def __init__(self, graph: Graph, devices: Sequence[Device]) -> None:
        self._graph, self._devices = graph, devices
        self._host_only = all(device.is_host for device in devices)

    def arrays(self, feeds: Any) -> dict[Tensor, Any]:
        """The feeds as arrays, in their order; those of sizes with one name agree."""
        arrays = {tensor: self.fed(tensor, value) for tensor, value in _as_feeds(feeds).items()}
        check_symbols(arrays)
        return arrays

    def shapes(self, feeds: Any) -> dict[Tensor, Shape]:
        """The shapes of the feeds, which may be shapes themselves."""
        shapes: dict[Tensor, Shape] = {}
        for tensor, value in _as_feeds(feeds).items():
            is_shape = isinstance(value, tuple) and all(isinstance(d, int) for d in value)
            if is_shape:
                check_shape(self._own(tensor), value)
            shapes[tensor] = value if is_shape else self.fed(tensor, value).shape
        return shapes

    def homes(self, arrays: Mapping[Tensor, Any]) -> dict[Tensor, str]:
        """The devices of feeds that are not on the host."""
        if self._host_only:
            return {}
        return {t: f"cuda:{a.device.id}" for t, a in arrays.items() if not isinstance(a, np.ndarray | np.generic)}

    def fed(self, tensor: Any, value: Any) -> Any:
        """``value`` as an array that fits ``tensor``; not copied when it does already."""
        tensor = self._own(tensor)
        if isinstance(value, Tensor):
            raise FeedError(f"{tensor.name} is fed a tensor, {value.name}", help="feed its value: session.run gives it")
        array = as_fed(tensor, value) if not is_on_gpu(value) else self._adopted(tensor, value)
        if array.shape != tensor.shape:
            check_shape(tensor, array.shape)
        return array

    def _own(self, tensor: Any) -> Tensor:
        """``tensor``, which is one of this session's graph."""
        if not isinstance(tensor, Tensor):
            if isinstance(tensor, str) and tensor in self._graph:
                raise FeedError(f"the key of a feed is a tensor, got the text {tensor!r}", help=f"{{graph[{tensor!r}]: array}}")
            raise FeedError(f"the key of a feed is a tensor, got {tensor!r:.80}", help="session.run(y, {x: array})")
        if tensor.graph is not self._graph:
            rows, help = of_another_graph(tensor)
            raise FeedError(f"{tensor.name} belongs to another graph than the session's", rows=rows, help=help)
        return tensor

    def _adopted(self, tensor: Tensor, value: Any) -> Any:
        """The caller's array on a GPU, not copied."""
        device, array = adopted(tensor, value, self._devices)
        return device.adopted(array)


def _as_feeds(feeds: Any) -> Mapping[Tensor, Any]:
    if feeds is None:
        return {}
    if not isinstance(feeds, Mapping):
        raise FeedError(f"feeds are a dict from tensors to values, got {type(feeds).__name__}", help="session.run(y, {x: array})")
    return feeds
