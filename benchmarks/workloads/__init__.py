"""Every workload by its name, in the order of the table. No rival's library is loaded before it is asked for."""

from benchmarks.workload import Workload
from benchmarks.workloads import black_scholes, chain, gelu, lenet, lstm, mlp, random_graph, toy, wide

WORKLOADS: dict[str, Workload] = {
    workload.name: workload
    for module in (toy, mlp, lenet, lstm, gelu, black_scholes, wide, chain, random_graph)
    for workload in module.WORKLOADS
}
