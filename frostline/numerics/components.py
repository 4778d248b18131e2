"""Connected components of a graph whose edges are added in batches, in memory for the nodes alone."""

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components


class Components:
    """Connected components of n nodes.

    Attributes:
        labels: (n,) int64, the smallest node of the component of each node. The array is changed in place.
    """

    def __init__(self, n: int) -> None:
        self.labels: NDArray[np.int64] = np.arange(n)

    def join(self, a: NDArray[np.int64], b: NDArray[np.int64]) -> None:
        """Add edges.

        Args:
            a: (e,) nodes.
            b: (e,) nodes.
        """
        a, b = self.labels[a], self.labels[b]
        apart = a != b
        nodes, ends = np.unique(np.stack([a[apart], b[apart]]), return_inverse=True)
        if not nodes.size:
            return
        ends = ends.reshape(2, -1)
        graph = coo_array((np.ones(ends.shape[1], bool), tuple(ends)), shape=(len(nodes), len(nodes)))
        _, which = connected_components(graph, directed=False)
        _, first = np.unique(which, return_index=True)  # nodes are sorted, so the first one is the smallest
        renamed = np.arange(len(self.labels))
        renamed[nodes] = nodes[first[which]]
        self.labels[:] = renamed[self.labels]

    def join_equal(self, keys: NDArray[np.void], nodes: NDArray[np.int64]) -> None:
        """Join the nodes with equal keys.

        Args:
            keys: (m,) keys, which can be sorted.
            nodes: (m,) nodes.
        """
        _, first, which = np.unique(keys, return_index=True, return_inverse=True)
        self.join(nodes, nodes[first[which]])
