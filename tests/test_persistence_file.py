"""A file of a model is whole and known, or it is refused; and it is never half written."""

import contextlib
import hashlib
import json
import os
import random
import re
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from over import over
from small import fails, small

from sknoisydim import NoisyDIMTransformer
from sknoisydim._persistence import _file
from sknoisydim.encoders import MLPEncoder
from sknoisydim.refinement import RotationGaussianization

SAVED = Path(__file__).parent / "saved_models"
X = np.random.default_rng(0).normal(size=(240, 3)) ** 3


@pytest.fixture(scope="module")
def model():
    refinement = RotationGaussianization(2, couplings=2)
    given = {"critic": "bilinear", "clean_weight": 0.5, "refine": refinement}
    return small(encoder=MLPEncoder((8,)), batch_size=64)(**given).fit(X)


@pytest.fixture(scope="module")
def data(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("file") / "model.safetensors"
    model.save(path)
    return path.read_bytes()


def refused(path, data):
    path.write_bytes(data)
    fails(re.escape(str(path)), NoisyDIMTransformer.load, path)


class TestDamage:
    def test_is_found(self, data, tmp_path):
        """Cut, flipped in the header or behind it, overwritten, doubled, foreign."""
        rng, head = np.random.default_rng(0), 8 + int.from_bytes(data[:8], "little")
        for at in (*rng.integers(1, head, size=10), *rng.integers(head, len(data), size=10)):
            flipped, noise = bytes([data[at] ^ 1 << rng.integers(8)]), rng.bytes(8)
            bad = [data[:at], data[:at] + flipped + data[at + 1 :], data + data[:at]]
            for one in (*bad, noise + data[8:], noise, data[:at] + noise + data[at:]):
                refused(tmp_path / "model", one)

    def test_a_huge_file_is_not_read(self, tmp_path):
        foreign = json.dumps({"__metadata__": {"format": "pt"}}).encode()
        for start in ((2**40).to_bytes(8, "little"), len(foreign).to_bytes(8, "little") + foreign):
            with open(tmp_path / "model", "wb") as file:
                file.write(start)
                file.truncate(2**41)  # sparse: it takes no room
            fails("not a file that sknoisydim saved", NoisyDIMTransformer.load, tmp_path / "model")

    def test_what_is_no_file(self, tmp_path):
        os.mkfifo(tmp_path / "pipe")
        for path in (tmp_path, tmp_path / "pipe"):
            fails("is not a file", NoisyDIMTransformer.load, path)
        with pytest.raises(FileNotFoundError):
            NoisyDIMTransformer.load(tmp_path / "model")


def parsed(data):
    end = 8 + int.from_bytes(data[:8], "little")
    return json.loads(data[8:end]), data[end:]


def sealed(head, body):
    """A file whose digest is right, whatever it says."""
    head["__metadata__"]["sha256"] = "0" * 64
    text = json.dumps(head, separators=(",", ":")).encode()
    whole = len(text).to_bytes(8, "little") + text + body
    digest = hashlib.sha256(whole).hexdigest().encode()
    return whole.replace(b'"sha256":"' + b"0" * 64, b'"sha256":"' + digest)


class TestCrafted:
    @over(version=["1", "x", ""])
    def test_of_another_format(self, version, data, model, tmp_path):
        head, body = parsed(data)
        (tmp_path / "model").write_bytes(sealed(head, body))  # with the seal of the library
        loaded = NoisyDIMTransformer.load(tmp_path / "model")
        assert_array_equal(loaded.transform(X), model.transform(X))
        head["__metadata__"] |= {"format_version": version, "versions": '{"sknoisydim": "0.0.9"}'}
        (tmp_path / "model").write_bytes(sealed(head, body))
        with pytest.raises(ValueError, match=r"reads version 3\. Load it with .*0\.0\.9"):
            NoisyDIMTransformer.load(tmp_path / "model")

    def test_arrays_that_are_not_in_the_file_and_deep_json(self, data, tmp_path):
        for change in ({"data_offsets": [0, 2**40]}, {"shape": [-1, -4]}, {"dtype": "V8"}):
            head, body = parsed(data)
            head[next(name for name in head if "weight" in name)] |= change
            refused(tmp_path / "model", sealed(head, body))
        for depth in (10**3, 10**5):
            head, body = parsed(data)
            head["__metadata__"]["fitted"] = "[" * depth + "]" * depth
            refused(tmp_path / "model", sealed(head, body))

    def mutants(self, data, number):
        draw = random.Random(number)
        other = [None, True, -1, 0, 2**31, 1e300, "x", [], {}, {"tuple": [1]}, {"__class__": "x"}]
        other += [{"name": "os.system"}, {"object": ["os.system", {"dict": []}]}]
        other += [{"object": ["torch.Linear", {"tuple": [10**6, 10**6]}]}]
        other += [{"distribution": ["norm", 1, 2]}, {"distribution": ["rv_continuous", [], {}]}]
        for _ in range(number):
            head, body = parsed(data)
            key = draw.choice(["parameters", "parts", "fitted"])
            tree = {"top": json.loads(head["__metadata__"][key])}
            holder, place = tree, "top"
            while isinstance(holder[place], (dict, list)) and holder[place] and draw.random() < 0.9:
                holder = holder[place]
                place = draw.choice([*holder] if isinstance(holder, dict) else range(len(holder)))
            holder[place] = draw.choice(other)
            if draw.random() < 0.2 and isinstance(holder, dict):
                del holder[place]
            head["__metadata__"][key] = json.dumps(tree.get("top"))
            yield sealed(head, body)

    def test_nothing_but_value_errors(self, data, tmp_path):
        """Each is loaded, and then has an encoder; or refused."""
        n_loaded = 0
        for mutant in self.mutants(data, 60):
            (tmp_path / "model").write_bytes(mutant)
            with contextlib.suppress(ValueError):
                loaded = NoisyDIMTransformer.load(tmp_path / "model")
                assert loaded.encoder_.encoder is loaded.net_.module_.encoder
                n_loaded += 1
        assert n_loaded < 48


def test_an_error_leaves_the_old_file_and_no_other_and_a_link_stays(model, data, tmp_path):
    """By the one function that writes checkpoints, too, in which tests/test_survival.py kills."""
    (tmp_path / "link").symlink_to(tmp_path / "model")
    model.save(tmp_path / "link")
    full = mock.patch.object(os, "fsync", side_effect=OSError("no space left on device"))
    with full, pytest.raises(OSError, match="no space"):
        model.save(tmp_path / "model")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "model"]
    assert (tmp_path / "model").read_bytes() == data
    assert (tmp_path / "link").is_symlink()


@over(path=sorted(SAVED.glob("*/*.safetensors")))
def test_saved_models_embed_as_they_did(path):
    """Files of the format are loaded for as long as that is its version; see saved_models."""
    assert path.parent.name == f"format-{_file.FORMAT_VERSION}"
    rows = np.load(path.parent / "rows.npy", allow_pickle=False)
    expected = np.load(path.with_suffix(".npy"), allow_pickle=False)
    loaded = NoisyDIMTransformer.load(path)
    # Another machine's matrix products have other last bits.
    np.testing.assert_allclose(loaded.transform(rows), expected, rtol=1e-4, atol=1e-5)
    assert np.isfinite(loaded.score_samples(rows)).all()
