"""
Reading a diagnosis
===================

``diagnose`` judges a fit on held-out samples: the mutual information, the distance of the
distribution to the target, and what to change. Here it finds too little noise, and its
advice improves the fit.
"""

import textwrap

from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from sknoisydim import NoisyDIMTransformer
from sknoisydim.plotting import EmbeddingDisplay

X, X_test = train_test_split(load_digits().data, test_size=0.4, random_state=0)

# %%
# A fit with too little noise
# ---------------------------
#
# Here only the mutual information is trained, with ``keep=None`` and ``match_weight=0``. The
# capacity is far above log(batch size), so InfoNCE reaches its maximum before the distribution
# matches.

quiet = NoisyDIMTransformer(4, noise=0.01, keep=None, match_weight=0, random_state=0).fit(X)
report = quiet.diagnose(X_test)
print(report)
report.to_frame()

# %%
# The first line has the **verdict** (``match``, ``close``, ``different`` or ``unclear``, which is
# too few samples to tell), the last ones the **advice**, the most important first. In the table:
#
# - **information**, in nats: of the rows at hand, beside what N(0, I) itself shows with the same
#   batches. Far less on held-out rows than on training rows is overfitting.
# - **components** and **joint**: relative distances, where 1 is what a sample of the target has
#   itself, and p-values; those that are *rejected* count, after correction for their number.
# - **classifier**: 0.5 if held-out embedded rows cannot be told from draws of the target.
# - **dimension**: samples with fewer dimensions than needed cannot match, however long the fit.
#
# All of it is there for programs, too:

print(f"verdict: {report.verdict}")
print(f"AUC of a neural network: {report.auc_mlp:.2f}")
print("\n".join(textwrap.fill(sentence, 68, initial_indent="- ") for sentence in report.advice))

# %%
# Pairs of components look right in a picture. What the classifier detects is in the joint
# distribution of all four.

EmbeddingDisplay.from_estimator(quiet, X_test)

# %%
# Follow the advice
# -----------------
#
# Noise on "auto", which is the default:

improved = NoisyDIMTransformer(4, keep=None, match_weight=0, random_state=0).fit(X)
after = improved.diagnose(X_test)
print(after)

# %%
# Both beside each other: the attributes of a report are plain numbers.

for name in ("relative_sliced_wasserstein", "total_correlation", "auc_boosting", "auc_mlp"):
    print(f"{name:27} noise 0.01: {getattr(report, name):5.2f}   auto: {getattr(after, name):5.2f}")

# %%
# Conclusion: the first sentence of advice named the cause. With noise on "auto" the components
# depend less on each other (total correlation), and classifiers find less of a difference. The
# sliced distance does not show it: look at the AUC first. Judge a fit by held-out samples; on its
# training samples it looks better than it is.
