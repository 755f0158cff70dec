"""Builds the objective for a table: encoder, normalisation, channel, critic, bound and view."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from sknoisydim._data import Rows, Table
from sknoisydim._objective import Objective
from sknoisydim._settings import Settings
from sknoisydim._sources import column_means, missing_columns
from sknoisydim.augmentations import prepare_view
from sknoisydim.encoders import IndicateMissing, check_output
from sknoisydim.scaling import Standardize

# Rows that a view may look at before training.
VIEW_ROWS = 2**12


def missing_cells(
    settings: Settings, table: Table, scaling: nn.Module, known: nn.Module | None = None
) -> IndicateMissing | None:
    """Return what stands in front of the encoder where cells may be missing, else None.

    Parameters
    ----------
    settings : Settings
    table : Table
        Training rows: columns that miss cells here are shown to the encoder.
    scaling : nn.Module
        A missing cell is filled with what it makes of the column's mean.
    known : nn.Module, optional
        The encoder that training goes on from, whose columns stay.

    Raises
    ------
    ValueError
        If `known` is an encoder for another `missing`.
    """
    wanted = settings.takes_missing
    if known is not None and isinstance(known, IndicateMissing) != wanted:
        raise ValueError(
            "warm_start=True goes on from the last fit's weights, and they are of another network "
            f"than missing={settings.missing!r} asks for. Use warm_start=False."
        )
    if not wanted:
        return None
    if isinstance(known, IndicateMissing):
        columns, fill = known.columns.cpu().clone(), known.fill.cpu().clone()
        return IndicateMissing(nn.Identity(), columns, fill)
    columns = torch.from_numpy(missing_columns(table.X))
    if isinstance(scaling, Standardize):  # its zero is the mean, also when a stream moves it
        return IndicateMissing(
            nn.Identity(), columns, torch.zeros(table.X.shape[1], dtype=torch.float32)
        )
    mean = column_means(table.X, table.weights)
    with torch.no_grad():
        fill = scaling(torch.from_numpy(mean)[None])[0].float()
    return IndicateMissing(nn.Identity(), columns, fill)


def build(
    settings: Settings,
    rows: Rows,
    channel: Any,
    generator: torch.Generator,
    front: IndicateMissing | None = None,
    linear_weights: tuple[float, ...] = (),
) -> Objective:
    """Return the objective for these rows, with weights from the generator.

    `front` stands in front of the encoder, if anything does; `linear_weights` are those of the
    reference features.

    Raises
    ------
    ValueError, TypeError
        If a component does not fit the rows, or there is nothing to train.
    """
    example = rows.take(torch.arange(min(2, len(rows)))).cpu()
    d = settings.n_components
    # Training is in float32, whatever torch's default dtype or that of a user's module is.
    example = example if front is None else front.widen(example)
    width = rows.shape or example[0].numel()
    encoder = settings.encoder.build(width, d, generator).float()
    check_output(encoder, example, d)
    if front is not None:
        front.encoder = encoder
        encoder = front
    critic: nn.Module | None = None
    if settings.clean_weight < 1 or not getattr(channel, "exact", True):
        critic = settings.critic.build(d, channel, generator)
        if not isinstance(critic, nn.Module):
            raise TypeError(
                f"critic={settings.critic!r} built a {type(critic).__name__}, not a torch module."
            )
    objective = Objective(
        encoder,
        settings.normalization.build(d),
        channel,
        critic,
        settings.bound,
        prepare_view(settings.augmentation, _some(rows, generator)),
        settings.clean_weight,
        linear_weights,
        settings.match_weight,
    )
    objective.precision = settings.precision
    if not any(parameter.requires_grad for parameter in objective.parameters()):
        raise ValueError(
            "there is nothing to train: no parameter of the encoder has requires_grad=True, and "
            f"with clean_weight={settings.clean_weight:g} and this critic there is no other. "
            "Unfreeze a layer of the encoder."
        )
    return objective


def _some(rows: Rows, generator: torch.Generator) -> torch.Tensor:
    return rows.take(torch.randperm(len(rows), generator=generator)[:VIEW_ROWS])


def load(objective: Objective, weights: Mapping[str, torch.Tensor]) -> None:
    """Give an objective the weights of the last fit, as far as both have them.

    Raises
    ------
    ValueError
        If the encoder's, or those of a critic that is still there, do not fit.
    """
    own = objective.state_dict()
    # What only helps in training starts afresh where there was none, and is dropped where there is
    # no use for it.
    for part in ("critic.", "bound.", "augmentation."):
        old, new = ({name for name in d if name.startswith(part)} for d in (weights, own))
        if not old or not new:
            weights = {name: value for name, value in weights.items() if name not in old}
            weights |= {name: own[name] for name in new}
    try:
        objective.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(
            "warm_start=True goes on from the last fit's weights, and they do not fit the network "
            f"that the parameters and the table ask for. Use warm_start=False. {error}"
        ) from error
