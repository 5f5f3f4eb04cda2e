"""Every workload by its name, in the order of the table. No rival's library is loaded before it is asked for."""

from benchmarks.workload import Workload
from benchmarks.workloads import (
    black_scholes,
    chain,
    gelu,
    heat,
    lenet,
    lenet_inference,
    limits,
    logistic,
    lstm,
    mlp,
    random_graph,
    resnet,
    small_matmuls,
    toy,
    transformer,
    tree,
    wide,
)

MODULES = (
    *(toy, logistic, mlp, lenet, lenet_inference, resnet, lstm, transformer),
    *(gelu, black_scholes, heat, wide, tree, small_matmuls, chain, random_graph),
)
WORKLOADS: dict[str, Workload] = {workload.name: workload for module in MODULES for workload in module.WORKLOADS}
# Not part of the table: what the machine itself allows.
LIMITS: dict[str, Workload] = {workload.name: workload for workload in limits.WORKLOADS}
