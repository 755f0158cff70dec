"""What a training does, by its effect, and that what was made fast is what its formula says."""

import copy
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from over import over
from skorch.callbacks import Callback
from skorch.history import History
from small import EPS, generator, small
from torch import nn

from sknoisydim._data import Batches, Rows, Table
from sknoisydim._modules import Dropout
from sknoisydim._net._callbacks import HeldOut
from sknoisydim._optimizers import one_cycle
from sknoisydim.augmentations import FeatureCorruption
from sknoisydim.encoders import MLPEncoder
from sknoisydim.metrics import classifier_auc, information_scorer
from sknoisydim.normalization import NORMALIZATIONS
from sknoisydim.scaling import fit_scaling

RNG = np.random.default_rng(0)
X = RNG.normal(size=(256, 4))
# Of two latent variables far from normal, in six columns.
LATENT = RNG.gamma(2.0, size=(4000, 2))
TABLE = np.exp(LATENT @ RNG.normal(size=(2, 6)) / 3)
dim = small(2, max_epochs=5, batch_size=32)


class Recorder(Callback):
    """Notes the rate, the loss and the size of the gradient of every step."""

    def on_train_begin(self, net, **kwargs):
        self.rates, self.losses, self.norms = [], [], []

    def on_grad_computed(self, net, named_parameters, **kwargs):
        gradients = [value.grad.norm() for _, value in named_parameters if value.grad is not None]
        self.norms.append(torch.stack(gradients).norm().item())

    def on_batch_end(self, net, training=True, loss=None, **kwargs):
        if training:
            self.rates.append(net.optimizer_.param_groups[0]["lr"])
            self.losses.append(loss.item())


def recorded(model):
    return dict(model.net_.callbacks_)["Recorder"]


class TestRate:
    def test_is_that_of_torch_and_falls_to_nothing(self):
        rates = recorded(dim(callbacks=[Recorder()], lr=1e-3).fit(X)).rates
        assert rates == [one_cycle(step, 40, 1e-3) for step in range(40)]
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)])
        theirs = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, 1000, cycle_momentum=False)
        for step in range(1000):
            ours = one_cycle(step, 1000, 1e-3)
            assert ours == pytest.approx(theirs.get_last_lr()[0], rel=0.02, abs=5e-6), step
            optimizer.step()
            theirs.step()

    def test_of_a_stream_rises_and_stays(self):
        model, rates = dim(callbacks=[Recorder()], lr=1e-3), []
        for _ in range(8):
            rates += recorded(model.partial_fit(X)).rates
        expected = 1e-3 * np.minimum(1, np.arange(1, 65) / 50)
        np.testing.assert_allclose(rates, expected)


class TestStep:
    def test_gradients_are_those_of_one_step(self):
        # Weights that do not move: what differs is the noise alone.
        norms = recorded(dim(callbacks=[Recorder()], lr=1e-30).fit(X)).norms
        assert np.mean(norms[-5:]) < 2 * np.mean(norms[:5])

    def test_the_loss_of_an_epoch_is_the_mean_of_its_batches(self):
        model = dim(callbacks=[Recorder()]).fit(X)
        losses = np.reshape(recorded(model).losses, (5, 8)).mean(1)
        np.testing.assert_allclose(model.history_["train_loss"], losses, rtol=1e-5)

    def test_noise_is_what_limits_the_information_of_clean_rows(self):
        # The capacity is log 2; the same scores of rows without noise would show log 3.
        model = dim(noise=1.0, max_epochs=20, batch_size=128).fit(X)
        nats = np.mean(model.history_["train_clean_information"][-5:])
        assert nats == pytest.approx(np.log(2), abs=0.15)

    def test_views_tell_less_than_their_rows(self):
        model = dim(max_epochs=10, clean_weight=0.5, augmentation=FeatureCorruption(0.9)).fit(X)
        view, clean = (model.history_[f"train_{p}_information"][-1] for p in ("view", "clean"))
        assert view != 0  # it is scored
        assert view < 0.5 * clean


class TestHeldOutRows:
    def test_early_stopping_restores_the_best_epoch(self):
        class Wreck(Callback):  # the encoder tells nothing from the fourth epoch on
            def on_batch_begin(self, net, **kwargs):
                if len(net.history) > 3:
                    nn.init.zeros_(net.module_.encoder[0].weight)

            def on_epoch_end(self, net, **kwargs):
                if len(net.history) == 3:
                    self.weights = copy.deepcopy(net.module_.encoder.state_dict())

        model = dim(max_epochs=50, callbacks=[Wreck()], early_stopping=3).fit(X)
        held_out = model.history_["valid_loss"]
        assert model.n_epochs_ == len(held_out) == 6
        assert np.argmin(held_out) == 2
        best = dict(model.net_.callbacks_)["Wreck"].weights
        for name, value in model.net_.module_.encoder.named_parameters():
            assert torch.equal(value, best[name])
        assert model.score(X) > 0.5

    def test_are_normalised_by_themselves(self):
        class Odd(nn.Linear):  # its output is far from what a normalised one is
            def forward(self, x):
                return 0.01 * super().forward(x) + 5

        # Held out are the rows of training: they tell as much.
        views = {"augmentation": "jitter", "clean_weight": 0.5}
        history = dim(encoder=Odd, batch_size=64, **views).fit(X, X_val=X).history_
        train, valid = (history[f"{part}_information"][-1] for part in ("train", "valid"))
        assert valid == pytest.approx(train, abs=0.3)
        assert valid > 1


class TestStatistics:
    def test_batch_normalisation_has_those_of_clean_rows(self):
        encoder = MLPEncoder((16,))
        views = {"augmentation": "masking", "clean_weight": 0.5}
        model = dim(encoder=encoder, batch_size=256, **views).fit(X)
        first, norm = model.net_.module_.encoder[:2]
        with torch.no_grad():
            hidden = first(model.encoder_.scaling(torch.from_numpy(X)).float())
        torch.testing.assert_close(norm.running_mean, hidden.mean(0), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(norm.running_var, hidden.var(0), rtol=1e-4, atol=1e-5)

    def test_of_a_sorted_table_are_those_of_all_rows(self):
        rows = TABLE[np.argsort(LATENT.sum(1))]
        z = dim(max_epochs=1, batch_size=512).fit(rows).transform(rows)
        np.testing.assert_allclose(z.mean(0), 0, atol=1e-6)
        np.testing.assert_allclose(np.cov(z.T, bias=True), np.eye(2), atol=5e-3)


def test_a_score_hardly_depends_on_the_order_of_rows():
    # A batch of 16 rows says little: of one alone the deviation is 0.08, not 0.013.
    model = dim(batch_size=16).fit(X[:64])
    orders = [np.random.default_rng(seed).permutation(X[:64]) for seed in range(8)]
    assert np.std([information_scorer(model, rows) for rows in orders]) < 0.03
    rows = np.concatenate([X - 10, X + 10])  # sorted
    model = dim(batch_size=256, max_epochs=10).fit(rows)
    shuffled = np.random.default_rng(0).permutation(rows)
    assert model.score(rows) == pytest.approx(model.score(shuffled), abs=0.02)


class Bent(nn.Sequential):
    def forward(self, x):
        return super().forward(x).sin()


# What transform folds into fewer layers, and what has to stay as it is.
ENCODERS = {
    "default": "mlp",
    "without batch_norm": MLPEncoder((32, 16), batch_norm=False),
    "residual": MLPEncoder((32, 32, 32), residual=True),
    "tanh": MLPEncoder((32, 16), activation="tanh"),
    "dropout": MLPEncoder((32, 16), dropout=0.5),
    "linear": MLPEncoder(()),
    "no affine": [nn.Linear(4, 8), nn.BatchNorm1d(8, affine=False), nn.Linear(8, 2)],
    "norm first": [nn.BatchNorm1d(4), nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2, bias=False)],
    "in place": [nn.ReLU(), nn.Linear(4, 8), nn.ReLU(), nn.ReLU(), nn.Linear(8, 2)],
    "another end": [nn.Linear(4, 2), nn.Tanh()],
    "a subclass": Bent(nn.Linear(4, 2)),
}


@over(encoder=ENCODERS, normalization=NORMALIZATIONS, dtype=list(EPS))
def test_transform_is_encoder_and_normalization(encoder, normalization, dtype):
    encoder = nn.Sequential(*encoder) if isinstance(encoder, list) else encoder
    model = dim(encoder=encoder, normalization=normalization, scaling=None, max_epochs=1).fit(X)
    rows = torch.from_numpy(X).to(dtype)
    before, module = rows.clone(), model.net_.module_.to(dtype).eval()
    with torch.no_grad():
        expected = module.normalizer(module.encoder(rows))
    z = torch.from_numpy(model.transform(rows.numpy()))
    atol = 1e-5 if dtype == torch.float32 else 1e-12
    torch.testing.assert_close(z, expected, rtol=1e-6, atol=atol)
    torch.testing.assert_close(rows, before, rtol=0, atol=0)


@over(p=[0.1, 0.5, 0.9], dtype=[torch.bfloat16, torch.float32, torch.float64])
def test_distribution_of_dropout(p, dtype):
    x = torch.ones(300, 500, dtype=dtype, requires_grad=True)
    layer = Dropout(p, seed=0).train()
    y = layer(x)
    assert y.dtype == dtype
    kept = y != 0
    share = kept.double().mean().item()
    assert abs(share - (1 - p)) < 5 * math.sqrt(p * (1 - p) / x.numel())
    torch.testing.assert_close(y[kept], torch.full_like(y[kept], 1 / (1 - p)))
    y.sum().backward()
    torch.testing.assert_close(x.grad, y.detach())
    assert not torch.equal(layer(x), y)
    assert layer.eval()(x) is x


@over("n_rows, batch_size", [(100, 10), (103, 10), (7, 10), (10, 10)], shuffle=[True, False])
def test_every_row_once_and_only_full_batches(n_rows, batch_size, shuffle):
    X = np.arange(n_rows, dtype=np.float64)[:, None]  # rows that hold their own position
    rows = Rows(Table(X), fit_scaling(None, X, 0), torch.device("cpu"))
    batches = Batches(rows, batch_size, generator(), shuffle=shuffle)
    size = min(n_rows, batch_size)
    seen = set()
    for _ in range(60):
        epoch = list(batches)
        assert len(epoch) == len(batches) == n_rows // size
        assert all(x.shape == (size, 1) and features == () for x, features in epoch)
        positions = torch.cat([x for x, _ in epoch]).flatten().long().tolist()
        assert len(set(positions)) == len(positions)
        seen.update(positions)
    # What one epoch drops, another holds.
    assert seen == set(range(n_rows if shuffle else n_rows // size * size))


def test_patience_is_counted_from_the_last_improvement():
    module = nn.Linear(1, 1, bias=False)
    stop = HeldOut(patience=2)
    net = SimpleNamespace(history=History(), module_=module, verbose=0)
    stop.on_train_begin(net)
    for epoch, nats in enumerate([1.0, 0.9, 1.2, 1.2005, 1.1]):
        nn.init.constant_(module.weight, float(epoch))
        net.history.append({"valid_loss": -nats, "epoch": epoch, "batches": []})
        if epoch < 4:
            stop.on_epoch_end(net)
    with pytest.raises(KeyboardInterrupt):
        stop.on_epoch_end(net)
    stop.on_train_end(net)
    assert module.weight.item() == 2


def test_held_out_rows_follow_the_distribution():
    rows = np.random.default_rng(1).gamma(1.0, size=(3000, 8)) @ np.tril(np.ones((8, 8)))
    found = []
    for training in ({"max_epochs": 30}, {"max_epochs": 1, "lr": 1e-12}):
        z = dim(8, **{"batch_size": 256, "keep_weight": 0.3} | training).fit(rows[:2000])
        found.append(classifier_auc(z.transform(rows[2000:]), random_state=0))
    assert found[0] < 0.68 < 0.8 < found[1]  # of a normal embedding 0.5; here 0.60, and 0.85
