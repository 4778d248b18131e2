"""Compare four heads on the same five folds of scikit-learn's 1,797 scanned digits; takes seconds on a CPU.

The pixels stand in for the features of a backbone; with a cache, give ``cache.features()[rows]``, ``cache.labels[rows]``
and ``content=cache.content[rows]`` of its train and val rows.
"""

import numpy as np
from sklearn.datasets import load_digits
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import LinearSVC

from frostline.classifiers import LinearHead, compare_heads


def main() -> None:
    """Print the table, and which differences are more than luck."""
    X, y = load_digits(return_X_y=True)
    heads = {
        "linear": LinearHead(l2=1e-2, device="cpu"),
        "svm": LinearSVC(C=1e-3),
        "knn": KNeighborsClassifier(10, metric="cosine"),
        "bayes": GaussianNB(),
    }
    print(compare_heads(X.astype(np.float32), y, heads))


if __name__ == "__main__":
    main()
