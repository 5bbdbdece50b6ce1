"""Spaces: their ranges, their YAML, and how their values become settings."""

from dataclasses import fields

import numpy as np
import pytest
import yaml

from vicreg.training.config import ImageConfig, TableConfig
from vicreg.training.pair_config import PairConfig
from vicreg.training.signal_config import SignalConfig
from vicreg.tuning.space import (
    Choice,
    Float,
    Integer,
    check_space,
    default_space,
    draw,
    plain_space,
    read_space,
    searchable,
    values_of,
    with_values,
)

KINDS = [TableConfig(), ImageConfig(), ImageConfig(steps=100), SignalConfig()]


@pytest.mark.parametrize("config", KINDS, ids=lambda config: type(config).__name__)
def test_every_draw_from_a_default_space_is_settings_that_can_be_fitted(config):
    space = check_space(default_space(config), type(config))
    generator = np.random.default_rng(0)
    for _ in range(50):
        values = draw(space, generator)
        assert all(space[name].holds(value) for name, value in values.items())
        found = with_values(config, values)
        assert found.check() == found
        for name, value in values.items():
            if name in {field.name for field in fields(config)} - {"view_rate"}:
                assert getattr(found, name) == value


def test_the_defaults_of_tables_lie_in_their_space():
    space = default_space(TableConfig())
    own = values_of(TableConfig(), space)
    assert set(own) == set(space)
    assert own["encoder_width"] == 128
    assert own["view_rate"] == 0.5
    assert with_values(TableConfig(), own) == TableConfig(view_rate=0.5)
    assert "expander_width" not in values_of(TableConfig(expander=(7, 7)), space)


def test_logarithmic_draws_count_each_power_of_ten_alike():
    generator = np.random.default_rng(0)
    drawn = np.array([Float(1e-4, 1.0, log=True).draw(generator) for _ in range(4000)])
    assert np.allclose(np.histogram(np.log10(drawn), 4, (-4, 0))[0] / 4000, 0.25, atol=0.03)
    whole = np.array([Integer(1, 1000, log=True).draw(generator) for _ in range(4000)])
    assert whole.min() == 1
    assert whole.max() > 900
    assert abs((whole <= 31).mean() - 0.5) < 0.08


def test_a_views_strength_is_left_out_where_it_has_none():
    assert with_values(TableConfig(), {"views": "walk", "view_rate": 0.3}).view_rate is None
    assert with_values(TableConfig(), {"views": "mask", "view_rate": 0.3}).view_rate == 0.3


def test_a_space_survives_its_yaml(tmp_path):
    space = default_space(TableConfig()) | {"encoder_norm": Choice((True, False)), "decoder": Choice(((64,), (32, 32)))}
    path = tmp_path / "space.yaml"
    path.write_text(yaml.safe_dump(plain_space(space)))
    assert read_space(path, TableConfig) == (space, {})


def test_yaml_may_fix_settings_and_write_numbers_as_people_do(tmp_path):
    path = tmp_path / "space.yaml"
    path.write_text(
        "learning_rate: {low: 1e-4, high: 1, log: true}\nsteps: [100, 200]\nanchor: 0\nweight_decay: 1e-3\n"
    )
    space, fixed = read_space(path, TableConfig)
    assert space == {"learning_rate": Float(1e-4, 1.0, log=True), "steps": Choice((100, 200))}
    assert fixed == {"anchor": 0, "weight_decay": 1e-3}


BAD = [
    (
        "learning_rat: {low: 1, high: 2}",
        r"can be searched; got 'learning_rat'. Did you mean 'learning_rate'",
    ),
    ("seed: [1, 2]", "a setting that can be searched; got 'seed'"),
    (
        "learning_rate: {low: 2, high: 1}",
        "learning_rate must go from low to high; got 2 to 1. It is empty",
    ),
    ("views: []", "the range of views must hold an option at least; got none"),
    ("steps: {low: 1}", "the range of steps must have low, high and"),
    ("steps: {low: 1.5, high: 3}", "steps must go from one whole number to another; got 1.5 to 3"),
    ("steps: {low: a, high: 3}", "the range of steps: low must be a number"),
    ("steps: {low: 1, high: 3, log: 7}", "the range of steps: log must be true or false; got 7"),
    ("anchor: {low: 0, high: 3, log: true}", "the range of anchor must begin above 0 on a logarithmic scale; got 0"),
    ("views: {low: 0, high: 3}", "the range of views must be a Choice; got Float. views is no number"),
    ("steps: 3", "a space must have a parameter to search; got none"),
    ("encoder: [[64]]\nencoder_depth: [1, 2]", "a space must give encoder once; got 'encoder'"),
    ("- 1", "must hold a space as YAML, such as learning_rate"),
]


@pytest.mark.parametrize(("text", "said"), BAD, ids=[text.split(":")[0] + str(n) for n, (text, _) in enumerate(BAD)])
def test_bad_spaces_are_told_apart(tmp_path, text, said):
    path = tmp_path / "space.yaml"
    path.write_text(text)
    with pytest.raises((ValueError, TypeError), match=said):
        read_space(path, TableConfig)


def test_a_space_is_a_mapping_of_ranges(tmp_path):
    with pytest.raises(TypeError, match="a space must be a mapping of parameters to ranges; got list"):
        check_space([], TableConfig)
    with pytest.raises(TypeError, match="the range of steps must be a Float, an Integer or a Choice; got 7"):
        check_space({"steps": 7}, TableConfig)
    with pytest.raises(ValueError, match="the range of steps must be an Integer or a Choice; got Float"):
        check_space({"steps": Float(1.0, 2.0)}, TableConfig)
    with pytest.raises(FileNotFoundError, match="must exist; got no such file"):
        read_space(tmp_path / "none.yaml", TableConfig)
    with pytest.raises(ValueError, match="of a table, pictures or signals to be tuned; got PairConfig"):
        default_space(PairConfig())


def test_what_can_be_searched_is_what_changes_the_learning():
    assert {"steps", "views", "encoder_width", "objective"} <= set(searchable(TableConfig))
    assert not {"seed", "device", "precision"} & set(searchable(TableConfig))
    assert "encoder_width" not in searchable(ImageConfig)
