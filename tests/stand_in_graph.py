# mypy: ignore-errors
"""Captures of the stand-in for CuPy: what streams ask for becomes the nodes of a graph, ordered by streams and events as CUDA does.

A stream takes part in a capture that begins on it, or once it waits for an event of one; for each is known which nodes its next is behind.
A launch has a vector clock for each node, merged of those before it alone: where the capture lacks an edge, there is a `Race`.
"""

import itertools

ERRORS = {
    "Invalidated": "operation failed due to a previous error during capture",
    "Isolation": "dependency created on uncaptured work in another stream",
    "Merge": "dependency created on another capture",
    "Unjoined": "capturing stream has unjoined work",
    "Unmatched": "capture was not initiated in this stream",
    "Unsupported": "operation not permitted when stream is capturing",
}


def capture_error(kind, what=""):
    return RuntimeError(f"cudaErrorStreamCapture{kind}: {what or ERRORS[kind]}")


class Capture:
    """One that is under way: its origin, the streams that take part, and for each the nodes that its next one comes behind."""

    def __init__(self, gpu, origin):
        self.gpu, self.origin, self.streams, self.is_broken, self.is_over = gpu, origin, {origin: frozenset()}, False, False
        self.nodes = []  # (name, nodes before, the bytes that it reads and writes, function, seconds)

    def refuse(self, kind, what=""):
        """Makes the capture void; the error to raise."""
        self.is_broken = True
        return capture_error(kind, what)

    def add(self, stream, what, parts, again, seconds):
        if self.is_broken:
            raise capture_error("Invalidated")
        self.nodes.append((what, self.streams[stream], parts, again, seconds))
        self.streams[stream] = frozenset({len(self.nodes) - 1})

    def wait(self, stream, nodes):
        self.streams[stream] = self.streams.get(stream, frozenset()) | nodes
        stream.capture = self

    def end(self):
        for stream in self.streams:
            stream.capture = None
        self.is_over = True
        if self.is_broken:
            raise capture_error("Invalidated")
        joined, left = set(), list(self.streams[self.origin])
        while left:
            node = left.pop()
            if node not in joined:
                joined.add(node)
                left += self.nodes[node][1]
        if len(joined) < len(self.nodes) or not all(nodes <= joined for nodes in self.streams.values()):
            raise capture_error("Unjoined")
        return Graph(self.gpu, self.nodes)


class Graph:
    """What a capture has recorded. Nodes that follow each other, and nothing else, share a clock."""

    numbers = itertools.count()

    def __init__(self, gpu, nodes):
        self.gpu, self.nodes = gpu, nodes
        self.chain = []  # for each node the name of its clock
        tails = {}  # the last node of a chain -> its clock
        for index, (_, before, *_) in enumerate(nodes):
            name = next((tails.pop(node) for node in sorted(before) if node in tails), None)
            self.chain.append(("graph", next(self.numbers)) if name is None else name)
            tails[index] = self.chain[-1]

    @property
    def branches(self):
        """How many chains there are."""
        return len(set(self.chain))

    def launch(self, stream=None):
        gpu = self.gpu
        gpu.check()
        with stream or gpu.stream:
            stream = gpu.stream
            gpu.log.append(("launch", stream.name, len(self.nodes)))
            stream.clock.merge(gpu.host)
            gpu.asked()
            clocks, ends, start = [], [], max(stream.until, gpu.now())
            for (what, before, parts, again, seconds), name in zip(self.nodes, self.chain, strict=True):
                clock = type(stream.clock)(stream.clock)
                for node in before:
                    clock.merge(clocks[node])
                gpu.ticks[name] = gpu.ticks.get(name, 0) + 1
                clock[name] = gpu.ticks[name]
                gpu.access(parts, clock, (name, clock[name]))
                gpu.log.append((what, stream.name))
                again()
                clocks.append(clock)
                ends.append(max([start, *[ends[node] for node in before]]) + seconds)
            for clock in clocks:
                stream.clock.merge(clock)
            stream.until = max([start, *ends])

    def upload(self, stream=None):
        pass
