"""VCReg: variance and covariance regularisation of hidden features in supervised training."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any, get_args

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.hooks import RemovableHandle

from vicreg._checks import check_choice, check_integer, check_number, listed, message, require, shown
from vicreg.distributed import ProcessGroup, Reduction, Share, common_batch
from vicreg.functional.fused import Formula, checked, evaluate


@dataclass(frozen=True)
class VCReg:
    """Keep the features inside a network spread and decorrelated while it learns from labels.

    For each layer, with C the covariance matrix of its d features,

        std_coeff mean_j max(0, target - sqrt(C_jj + eps)) + cov_coeff / (d (d - 1)) sum_{i != j} C_ij^2

    is to be added to one's own loss; the layers' terms are summed. Unlike VICReg's covariance term this one is a mean
    over the entries, so that layers of different widths weigh alike.

    Where a layer gives maps, every place of every sample is a sample of its own: (n, c, h, w) are n h w rows of c
    features. Statistics are float32 (float64 for float64) whatever autocast says, and those of the rows of all
    processes together, with the gradient that DDP makes exact.

    Source: Zhu et al., "Variance-Covariance Regularization Improves Representation Learning", arXiv:2306.13292, which
    puts it after each block of a network. The covariances are squared, as in its formula; its smooth L1 penalty for
    outliers is not here, nor does this change what a layer passes on. Cost: O(n h w d min(n h w, d)) for each layer,
    in three copies of its output.

    Attributes:
        std_coeff: Weight of the variance term of each layer, at least 0. This and the next are the defaults of a public
            layer for the method (Algomancer/VCReg at a8eaf3a); the paper tunes both for each network.
        cov_coeff: Weight of the covariance term, at least 0.
        variance_target: Standard deviation below which the variance term acts, at least 0.
        eps: Added to the variance under the square root, above 0.
        channels: The dimension of a layer's output that its features lie along, not 0. By default the last of (n, d)
            and (n, t, d), and 1 of maps: (n, c, h, w), (n, c, t, h, w). Say 1 for (n, c, t) of one-dimensional
            convolutions, and -1 for maps whose features come last.
        process_group: As for ``VICRegLoss``.
        gradient_reduction: As for ``VICRegLoss``.

    Raises:
        TypeError: An argument is of the wrong type.
        ValueError: An argument is out of its range.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
        >>> x, y = torch.randn(16, 4), torch.randint(3, (16,))
        >>> with VCReg().attach(model, ["0"]) as features:
        ...     loss = nn.functional.cross_entropy(model(x), y) + features.total()
        ...     loss.backward()
        >>> list(features.terms())
        ['0.variance', '0.covariance', 'total']
    """

    std_coeff: float = 0.16
    cov_coeff: float = 0.01
    variance_target: float = 1.0
    eps: float = 1e-4
    channels: int | None = None
    process_group: ProcessGroup = "default"
    gradient_reduction: Reduction = "mean"

    def __post_init__(self) -> None:
        for name in ("std_coeff", "cov_coeff", "variance_target"):
            check_number(name, getattr(self, name), 0)
        check_number("eps", self.eps, 0, open_low=True)
        if self.channels is not None:
            check_integer("channels", self.channels, -10)
            require(self.channels != 0, "channels", "not be 0", self.channels, "Samples lie along that dimension.")
        check_choice("gradient_reduction", self.gradient_reduction, get_args(Reduction))

    def attach(self, model: nn.Module, layers: str | nn.Module | Sequence[str | nn.Module]) -> Attached:
        """A context in which each forward pass of the model leaves its layers' terms to be added to a loss.

        A forward pass without gradients leaves everything as it was. A layer's terms are formed when it is called, so
        what is done to its output in place afterwards does not matter. Several contexts may be open at once, for layers
        with different coefficients.

        Args:
            model: The network, which is called as a whole; its ``DistributedDataParallel`` or what is inside that.
            layers: Names as in ``model.named_modules()``, or the modules themselves; one or several.

        Returns:
            The context; it has hold of the model from ``with`` on, and lets go of it at the end, come what may.

        Raises:
            TypeError: The model or a layer is none.
            ValueError: There is no such layer, or one is named twice.

        Example:
            >>> VCReg().attach(nn.Sequential(nn.Linear(4, 8)), "1")
            Traceback (most recent call last):
            ValueError: layers must name modules of the model; got '1'. Did you mean '0'?
        """
        require(isinstance(model, nn.Module), "model", "be a Module", type(model).__name__, error=TypeError)
        wanted = [layers] if isinstance(layers, str | nn.Module) else list(layers)
        require(len(wanted) > 0, "layers", "name at least one layer", "none")
        found: dict[str, nn.Module] = {}
        for layer in wanted:
            name, module = _found(model, layer)
            require(all(module is not other for other in found.values()), "layers", "differ", f"{shown(name)} twice")
            found[name] = module
        return Attached(self, model, found)

    def columns(self, name: str, output: Any) -> Tensor:
        """A layer's output as rows of features, (rows, d).

        Raises:
            TypeError: It is no floating tensor.
            ValueError: It has no such dimension.

        Example:
            >>> VCReg().columns("maps", torch.ones(2, 3, 4, 5)).shape
            torch.Size([40, 3])
        """
        what = f"The output of layer {shown(name)}"
        fix = "Choose a layer inside it that gives one."
        require(isinstance(output, Tensor), what, "be a tensor", type(output).__name__, fix, error=TypeError)
        require(output.is_floating_point(), what, "be of a floating type", output.dtype, error=TypeError)
        shape = tuple(output.shape)
        require(output.ndim > 1, what, "have shape (n, d), (n, t, d) or (n, c, ...)", shape)
        along = (1 if output.ndim > 3 else -1) if self.channels is None else self.channels
        rule = f"have a dimension {along}, not that of the samples, for channels={self.channels}"
        require(-output.ndim < along < output.ndim, what, rule, shape)
        rows: Tensor = output.movedim(along, -1).flatten(0, -2)
        return rows

    def evaluated(self, name: str, output: Any) -> tuple[Tensor, dict[str, Tensor]]:
        """The weighted sum of a layer's terms, with its graph, and the terms, without one."""

        def share() -> tuple[tuple[Formula, Tensor], Share]:
            rows = self.columns(name, output)
            pairs = max(1, rows.shape[1] - 1)
            formula = Formula(
                variance=(self.std_coeff,),
                covariance=(self.cov_coeff / pairs,),
                target=self.variance_target,
                eps=self.eps,
            )
            formula, own = checked(formula, [rows], [f"The output of layer {shown(name)}"])
            return (formula, rows), own

        (formula, rows), batch = common_batch(self.process_group, share)
        made = evaluate(formula, [rows], batch=batch, lift=batch.lift(self.gradient_reduction))
        covariance = made.covariance[0] / max(1, rows.shape[1] - 1)
        return made.total, {f"{name}.variance": made.variance[0], f"{name}.covariance": covariance}


class Attached:
    """The layers of a model whose terms are formed at each forward pass: what ``VCReg.attach`` returns.

    Args:
        settings: The coefficients.
        model: The network.
        layers: Its layers by name.
    """

    def __init__(self, settings: VCReg, model: nn.Module, layers: dict[str, nn.Module]) -> None:
        self.settings = settings
        self.model = model
        self.layers = layers
        self._handles: list[RemovableHandle] = []
        self._made: dict[str, tuple[Tensor, dict[str, Tensor]]] = {}
        self._inside = False

    def __enter__(self) -> Attached:
        require(not self._handles, "A context of VCReg", "be entered once at a time", "a second time")
        hooks = [partial(self._see, name) for name in self.layers]
        self._handles = [self.model.register_forward_pre_hook(self._begin)]
        self._handles += [layer.register_forward_hook(h) for layer, h in zip(self.layers.values(), hooks, strict=True)]
        self._handles.append(self.model.register_forward_hook(self._end, always_call=True))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []
        self._inside = False

    def total(self) -> Tensor:
        """The weighted sum of all layers' terms of the last forward pass, with its graph, to add to a loss.

        Raises:
            ValueError: A layer has not been called in it, or there was none.
        """
        return self.terms()["total"]

    def terms(self) -> dict[str, Tensor]:
        """The terms of the last forward pass by layer, unweighted and detached; and ``total``, with its graph.

        Returns:
            ``LAYER.variance`` and ``LAYER.covariance`` for each layer, and ``total``.

        Raises:
            ValueError: As in :meth:`total`.
        """
        silent = [name for name in self.layers if name not in self._made]
        rule = "be called in a forward pass of the model, with gradients, before the terms are asked for"
        fix = "Call the model inside the context; compile it after entering."
        require(not silent, "Every layer", rule, f"no call of {listed(silent)}", fix)
        totals, terms = zip(*(self._made[name] for name in self.layers), strict=True)
        named = {name: value for each in terms for name, value in each.items()}
        return named | {"total": sum(totals[1:], totals[0])}

    def _begin(self, *_: object) -> None:
        if torch.is_grad_enabled():
            self._made = {}
            self._inside = True

    def _end(self, *_: object) -> None:
        """What is called from now on is recomputed for the backward pass, or none of the model's business."""
        self._inside = False

    def _see(self, name: str, _module: nn.Module, _inputs: object, output: Any) -> None:
        if self._inside and torch.is_grad_enabled():
            fix = "Attach to a layer that is, or to those around it."
            once = name not in self._made
            require(once, f"Layer {shown(name)}", "be called once in a forward pass", "a second call", fix)
            with saved_tensors_hooks(_as_it_is, _as_it_is):  # what is saved here is no part of a checkpointed layer
                self._made[name] = self.settings.evaluated(name, output)


def _as_it_is(saved: Tensor) -> Tensor:
    return saved


def _found(model: nn.Module, layer: object) -> tuple[str, nn.Module]:
    """A layer by name or as a module: its name and the module."""
    modules = dict(model.named_modules(remove_duplicate=False))
    kind = isinstance(layer, str | nn.Module)
    require(kind, "layers", "be names or modules", type(layer).__name__, error=TypeError)
    if isinstance(layer, nn.Module):
        name = next((name for name, module in modules.items() if module is layer), None)
        if name is None:
            raise ValueError(message("layers", "be modules of the model", f"a {type(layer).__name__} of another one"))
        return name, layer
    if layer not in modules:
        near = difflib.get_close_matches(str(layer), [name for name in modules if name], n=3, cutoff=0.0)
        fix = f"Did you mean {' or '.join(map(shown, near))}?" if near else ""
        raise ValueError(message("layers", "name modules of the model", shown(layer), fix))
    return str(layer), modules[str(layer)]
