"""What the method does on real data: collapse without the variance term, and better neighbours than PCA's."""

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from vicreg import CollapseWarning, VICReg

PAPER = {"n_components": 8, "linear_path": False, "reconstruction": 0.0, "expander": (), "steps": 400}


def spread(**parameters):
    """Mean standard deviation of the embedding's dimensions, where the loss acts on the representation itself."""
    X = load_digits().data
    return float(VICReg(**{**PAPER, **parameters}, random_state=0).fit_transform(X).std(axis=0).mean())


@pytest.mark.slow
def test_without_the_variance_term_the_embedding_collapses_and_the_monitor_says_so():
    with pytest.warns(CollapseWarning, match="collapse"):
        assert spread(std_coeff=0.0) < 0.05
    assert spread() > 0.5


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_digits_have_better_neighbours_than_in_pca(seed):
    X, y = load_digits(return_X_y=True)
    train, test, y_train, y_test = train_test_split(X, y, test_size=0.25, random_state=seed, stratify=y)
    model = VICReg(n_components=8, random_state=seed).fit(train)
    pca = make_pipeline(StandardScaler(), PCA(8)).fit(train)  # of the columns as the networks get them: standardised

    def accuracy(transform):
        probe = KNeighborsClassifier().fit(transform(train), y_train)
        return probe.score(transform(test), y_test)

    assert accuracy(model.transform) > accuracy(pca.transform) + 0.01
    assert np.isfinite(model.transform(test)).all()
