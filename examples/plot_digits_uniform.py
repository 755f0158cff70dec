"""
Digits on the unit square
=========================

Handwritten digits of 64 pixels are embedded in two components that are jointly uniform: they fill
the square, and digits of one class are close to each other.
"""

from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from sknoisydim import NoisyDIMTransformer
from sknoisydim.metrics import classifier_auc, relative_distance
from sknoisydim.plotting import EmbeddingDisplay, TargetFitDisplay, TrainingDisplay

X, X_test, y, y_test = train_test_split(
    *load_digits(return_X_y=True), test_size=0.4, random_state=0
)

# %%
# Fit. With ``supervision``, a linear model of the embedding should predict the class. Two
# components cannot keep much, so the weights are small: 0.3 for the columns (the default of
# ``keep_weight`` is 10) and 1 for the labels. A large weight of the labels would separate the
# classes into clusters with gaps between them.

dim = NoisyDIMTransformer(2, target="uniform", supervision=1, keep_weight=0.3, random_state=0).fit(
    X, y
)
Z = dim.transform(X_test)

# %%
# How training went
# -----------------
#
# The information that crosses the channel, with what bounds it: what a batch can show, and the
# capacity.

TrainingDisplay.from_estimator(dim)

# %%
# The held-out rows
# -----------------
#
# The inner curve contains half of the target, the outer one 95 %. The title gives the share of the
# samples inside.

# sphinx_gallery_thumbnail_number = 2
display = EmbeddingDisplay.from_estimator(dim, X_test, y_test)

# %%
# Each component by itself: histogram and Q-Q line, with what sampling leaves in grey.

TargetFitDisplay.from_estimator(dim, X_test)

# %%
# The joint distribution
# ----------------------
#
# A classifier that tries to tell held-out rows from draws of the target, against PCA with a
# QuantileTransformer behind it, which makes each component uniform by itself.

from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import QuantileTransformer

baseline = make_pipeline(PCA(2, whiten=True), QuantileTransformer(n_quantiles=500, random_state=0))
Z_pca = baseline.fit(X).transform(X_test)
for name, rows in (("PCA + quantiles", Z_pca), ("NoisyDIM", Z)):
    auc = classifier_auc(rows, "uniform", random_state=0)
    distance = relative_distance("sliced_wasserstein", rows, "uniform", random_state=0)
    print(f"{name:16} AUC {auc:.2f} (perfect: 0.5), relative distance {distance:.1f} (perfect: 1)")

# %%
# What neighbours in the square say about the class of a digit:

from sklearn.neighbors import KNeighborsClassifier

for name, train, test in (
    ("PCA + quantiles", baseline.transform(X), Z_pca),
    ("NoisyDIM", dim.transform(X), Z),
):
    accuracy = KNeighborsClassifier(15).fit(train, y).score(test, y_test)
    print(f"{name:16} accuracy of 15 neighbours {accuracy:.2f}")

# %%
# Conclusion: making each component uniform by itself does not make the pair uniform, and the
# classifier detects it; the embedding of NoisyDIM is much closer to jointly uniform on held-out
# samples. The accuracy of neighbours is a little lower.
