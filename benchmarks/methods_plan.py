"""Which fits the comparison of objectives is made of."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import product

from methods_fit import LENGTHS, METHODS, REFERENCES, Fit

Found = Mapping[Fit, dict]
Results = list[dict]

PICTURES = ("fashion", "cifar10")
TRIALS = {"digits": 6}
FEWER_TRIALS = 4
RATES = (1e-3, 3e-3)
MORE_RATES = (1e-3, 3e-3, 3e-4, 5e-4, 2e-3, 5e-3)
ADDED_TO = ("byol", "simsiam")
TUNING_SEED = MOST_SEEDS = 100
COEFFICIENTS = (
    *((25, 25, 1), (25, 0, 1), (25, 25, 0), (25, 0, 0), (0, 25, 1)),
    *((1, 1, 0), (1, 1, 1), (1, 10, 1), (10, 1, 1), (5, 5, 1), (10, 10, 1), (50, 50, 1)),
)
"""Left out one by one, then the rest of the paper's table 7."""
EXPANDERS = ((), (16, 16), (64, 64), (256, 256), (1024, 1024))
BATCHES = (32, 64, 128, 256, 512)
BATCH_RATES = (5e-4, 1e-3, 3e-3)
WITHOUT_NORM = ("vicreg", "barlow_twins", "simclr", "byol", "byol+variance", "simsiam", "simsiam+variance")


def methods_of(data: str) -> list[str]:
    """The methods that suit a data set: VICRegL needs maps."""
    return [name for name in METHODS if name != "vicregl" or data in PICTURES]


def trials(data: str, method: str) -> list[Fit]:
    """The tuning trials of a method, as many for each; the library's default value comes first."""
    values, most = METHODS[method].values, TRIALS.get(data, FEWER_TRIALS)
    if len(values) == 1:
        grid = [(rate, values[0]) for rate in MORE_RATES[:most]]
    else:
        first = values if most == len(RATES) * len(values) else values[:1]
        grid = [*product(RATES[:1], first), *product(RATES[1:], values)]
    return [Fit(data, "valid", method, value, rate, TUNING_SEED, *LENGTHS[data]) for rate, value in grid]


def best(found: Found, tried: list[Fit]) -> Fit:
    """The trial with the best linear probe; of equals the first."""
    return max((fit for fit in tried if fit in found), key=lambda fit: found[fit]["linear"], default=tried[0])


def plain(found: Found, data: str, method: str) -> Fit:
    """The best trial of a method to which others add a term: at the default value, and the rates that those have."""
    tried = trials(data, method)
    return best(found, [fit for fit in tried if fit.value == tried[0].value and fit.rate in RATES])


def seeded(fit: Fit, seeds: int) -> list[Fit]:
    """The same on test rows from each seed."""
    return [replace(fit, judged="test", seed=seed) for seed in range(seeds)]


def references(data: str, width: int, seeds: int) -> Iterator[Fit]:
    """PCA of the same width, and the network untrained."""
    untrained = Fit(data, "test", REFERENCES[1], 1.0, 1e-3, 0, 0, LENGTHS[data][1])
    yield replace(untrained, method=REFERENCES[0], rate=0.0, expander=(width,))
    yield from seeded(untrained, seeds)


def batch_trials(found: Found) -> list[Fit]:
    """VICReg at each batch size and some learning rates, as many samples seen by each."""
    fit = vicreg_on_digits(found)
    samples = fit.steps * fit.batch
    return [
        replace(fit, judged="valid", seed=TUNING_SEED, batch=batch, steps=samples // batch, rate=rate)
        for batch, rate in product(BATCHES, BATCH_RATES)
    ]


def vicreg_on_digits(found: Found) -> Fit:
    """The paper's weights, at the learning rate of the best trial."""
    return replace(best(found, trials("digits", "vicreg")), value=1.0)


def ablations(found: Found) -> dict[str, dict[str, Fit]]:
    """The ablations on digits, by kind and name; at VICReg's chosen learning rate, or the method's or batch's own."""
    fit, tried = vicreg_on_digits(found), batch_trials(found)
    of_batch = {batch: [one for one in tried if one.batch == batch] for batch in BATCHES}
    own = {method: best(found, trials("digits", method)) for method in WITHOUT_NORM}
    return {
        "coefficients": {
            "/".join(map(str, three)): replace(fit, coefficients=tuple(map(float, three))) for three in COEFFICIENTS
        },
        "expander": {"-".join(map(str, widths)) or "none": replace(fit, expander=widths) for widths in EXPANDERS},
        "batch": {str(batch): best(found, fits) for batch, fits in of_batch.items()},
        "no batch norm": {method: replace(one, norm=False) for method, one in own.items()},
    }


def of_seeds(found: Found, fit: Fit) -> Results:
    """What came of a fit on test rows, by seed."""
    return [found[one] for one in seeded(fit, MOST_SEEDS) if one in found]


def width_of(found: Found, data: str) -> int:
    return int(next((row["width"] for fit, row in found.items() if fit.data == data and "width" in row), 0))
