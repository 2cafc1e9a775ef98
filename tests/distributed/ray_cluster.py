"""A Ray cluster of two nodes on this machine, as a program: says its address; `lose` on its input kills the second node
without warning; the end of its input ends it."""

from __future__ import annotations

import os
import sys
import tempfile

MEMORY = 80 * 2**20
"""Bytes of each node's object store: about the least that Ray takes."""


def run() -> None:
    from ray.cluster_utils import Cluster

    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 3, "object_store_memory": MEMORY, "include_dashboard": False},
    )
    second = cluster.add_node(num_cpus=2, object_store_memory=MEMORY)
    cluster.wait_for_nodes()
    sys.stdout.write(f"address {cluster.address}\n")
    sys.stdout.flush()
    for line in sys.stdin:
        if line.strip() == "lose":
            cluster.remove_node(second, allow_graceful=False)
            sys.stdout.write("lost\n")
            sys.stdout.flush()
    cluster.shutdown()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="hr", dir="/tmp", ignore_cleanup_errors=True) as made:
        os.environ["RAY_TMPDIR"] = made  # a short name: sockets lie there, whose paths have 107 characters at most
        run()
