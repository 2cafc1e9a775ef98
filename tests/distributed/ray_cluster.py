"""A Ray cluster of two nodes on this machine, as a program: says its address; `lose` on its input kills the second node
without warning; the end of its input ends it."""

from __future__ import annotations

import sys

from ray.cluster_utils import Cluster

if __name__ == "__main__":
    small = {"object_store_memory": 80 * 2**20, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 3, **small})
    second = cluster.add_node(num_cpus=2, object_store_memory=small["object_store_memory"])
    cluster.wait_for_nodes()
    sys.stdout.write(f"address {cluster.address}\n")
    sys.stdout.flush()
    for line in sys.stdin:
        if line.strip() == "lose":
            cluster.remove_node(second, allow_graceful=False)
            sys.stdout.write("lost\n")
            sys.stdout.flush()
    cluster.shutdown()
