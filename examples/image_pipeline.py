"""Choose a head for scanned digits with scikit-learn's own grid search, on images that go through the network once.

Needs no network and takes a minute on two cores: python examples/image_pipeline.py. The images and the stored features
are in a temporary folder; without ``cache`` the features would be stored for the next time.
"""

import tempfile
import time
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline

from frostline import ImageFeatures, KNNHead, LinearHead
from frostline.pipeline.demo import write_digits

IMAGES = 300


def main() -> None:
    """Write the images, search, and use what was found."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "digits"
        write_digits(data)
        paths = np.random.default_rng(0).permutation(sorted(map(str, data.glob("*/*.png"))))[:IMAGES]
        labels = np.array([Path(path).parent.name for path in paths])
        train, test, y_train, y_test = train_test_split(paths, labels, random_state=0, stratify=labels)

        features = ImageFeatures(image_size=64, cache=Path(folder) / "features")
        model = make_pipeline(features, LogisticRegression())
        heads = [LogisticRegression(max_iter=2000), LinearHead(l2=0.01), KNNHead()]
        search = GridSearchCV(model, {"logisticregression": heads}, cv=5)

        for attempt in ("The first search", "The same again"):
            began = time.perf_counter()
            search.fit(train, y_train)
            print(f"{attempt} takes {time.perf_counter() - began:.1f} s.")
        print(f"Best head: {search.best_params_['logisticregression']}")
        print(f"Accuracy on {len(test)} other images: {search.score(test, y_test):.1%}")


if __name__ == "__main__":
    main()
