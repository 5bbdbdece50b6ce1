"""LARS: stochastic gradient descent whose steps are measured by the weights they change."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.optimizer import Optimizer, ParamsT

from vicreg._checks import check_number, message, require, shown

BUFFER = "momentum_buffer"

LARGE = 2**16
"""Entries from which a tensor on the CPU is a list of its own."""


class LARS(Optimizer):
    r"""Layer-wise adaptive rate scaling, with which the VICReg paper trains.

    In large batches one learning rate suits no two layers. Here each tensor's step has a length in proportion to the
    tensor's own. With weights :math:`w`, their gradient :math:`g` and momentum :math:`m` (zero at first), a step is

    .. math::
        u &= g + \text{weight\_decay} \cdot w \\
        q &= \text{eta} \cdot |w| / |u| \quad \text{(1 where either norm is 0, or where adapt is off)} \\
        m &\leftarrow \text{momentum} \cdot m + q u \\
        w &\leftarrow w - \text{lr} \cdot m

    Biases, batch norm and the like are to have ``adapt`` off and no decay, each group of parameters its own setting:
    :func:`vicreg.training.optim.parameter_groups` makes the groups so. All norms stay on the device, and a step waits
    for none. Those of half-precision tensors are taken in float32.

    Source: You, Gitman and Ginsburg, arXiv:1708.03888, in the form of VICReg's code (``main_vicreg.py`` in
    facebookresearch/vicreg), which takes the norm of gradient and decay together.

    Args:
        params: Parameters, or groups of them as dictionaries, each of which may set any of the following for itself.
        lr: Learning rate, at least 0.
        momentum: Share of the last step that is kept, from 0 to 1.
        weight_decay: Weight of the squared norm, at least 0.
        eta: Trust coefficient, above 0: a step's length, by that of the weights, at ``lr`` 1 and without momentum.
        adapt: Whether steps are measured by the weights; otherwise this is gradient descent with momentum.
        clip: Whether ``q`` is divided by ``lr`` and then at most 1, so that what multiplies :math:`u` in the weights is
            the smaller of ``q`` and ``lr``. Then ``lr`` is an upper bound where it is a factor otherwise, which asks
            for another ``eta``. The form is known as LARC; recipes for small images use it, with ``eta`` .02.

    Raises:
        TypeError: ``params`` is a tensor or a module, a setting no number, or ``adapt`` or ``clip`` no bool.
        ValueError: A setting is out of range.

    Example:
        >>> from vicreg.training.optim import parameter_groups
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 2))
        >>> optimizer = LARS(parameter_groups(model, weight_decay=1e-6), lr=1.6)
        >>> before = model[0].weight.detach().clone()
        >>> model(torch.randn(16, 4)).square().mean().backward()
        >>> optimizer.step()
        >>> step = (model[0].weight.detach() - before).norm() / before.norm()
        >>> round(step.item(), 6)  # lr times eta
        0.0016
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float,
        momentum: float = 0.9,
        weight_decay: float = 1e-6,
        eta: float = 1e-3,
        adapt: bool = True,
        clip: bool = False,
    ) -> None:
        several = not isinstance(params, Tensor | nn.Module)
        rule, fix = "be parameters or groups of them", "Pass parameter_groups(model, weight_decay)."
        require(several, "params", rule, type(params).__name__, fix, TypeError)
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "eta": eta}
        super().__init__(params, {**defaults, "adapt": adapt, "clip": clip})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Take in a further group of parameters; what it does not set is as given at the start.

        Raises:
            TypeError: A setting is of the wrong kind, or the group no dictionary of parameters.
            ValueError: A setting is out of range.
        """
        if isinstance(param_group, dict):
            param_group = param_group | _checked(self.defaults | param_group)
        super().add_param_group(param_group)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step along the gradients that there are; parameters without one keep theirs and their momentum.

        Args:
            closure: Computes the loss and its gradients anew, beforehand.

        Returns:
            What ``closure`` returned, if there is one.

        Raises:
            ValueError: A gradient is sparse.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameters in _alike(group["params"]):
                _step(parameters, [self._buffer(one) for one in parameters], group)
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from what :meth:`state_dict` returned, bit by bit.

        Each momentum is copied into its parameter's memory layout. A file that keeps contiguous tensors loses it, and a
        kernel may round differently along another one.

        Raises:
            ValueError: It is of other parameters, or of another optimiser.
        """
        super().load_state_dict(state_dict)
        for parameter, state in self.state.items():
            shape = tuple(state[BUFFER].shape) if BUFFER in state else f"no {BUFFER}"
            fits = isinstance(parameter, Tensor) and shape == tuple(parameter.shape)
            require(fits, "state_dict", "hold the momentum of each parameter", shape)
            state[BUFFER] = torch.empty_like(parameter).copy_(state[BUFFER])

    def _buffer(self, parameter: Tensor) -> Tensor:
        state = self.state[parameter]
        if BUFFER not in state:
            state[BUFFER] = torch.zeros_like(parameter)
        buffer: Tensor = state[BUFFER]
        return buffer


def _checked(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings of a group, each within its range."""
    for name in ("adapt", "clip"):
        require(isinstance(settings[name], bool), name, "be True or False", shown(settings[name]), error=TypeError)
    return {
        "lr": check_number("lr", settings["lr"], 0),
        "momentum": check_number("momentum", settings["momentum"], 0, 1),
        "weight_decay": check_number("weight_decay", settings["weight_decay"], 0),
        "eta": check_number("eta", settings["eta"], 0, open_low=True),
    }


def _alike(parameters: Iterable[Tensor]) -> Iterable[list[Tensor]]:
    """Those with a gradient, in lists of one device and type, for operations on whole lists.

    On the CPU large ones stand alone: one after another each stays in the cache, 1.7 times as fast as all at once.
    """
    lists: dict[object, list[Tensor]] = defaultdict(list)
    for one in parameters:
        if one.grad is not None:
            if one.grad.is_sparse:
                fix = "Make the embedding with sparse=False."
                raise ValueError(message("each gradient", "be dense", "a sparse tensor", fix))
            alone = one.device.type == "cpu" and one.numel() >= LARGE
            lists[id(one) if alone else (one.device, one.dtype)].append(one)
    return lists.values()


def _step(parameters: list[Tensor], buffers: list[Tensor], group: dict[str, Any]) -> None:
    updates = [one.grad for one in parameters if one.grad is not None]
    if group["weight_decay"]:
        # A copy: gradients are the caller's.
        updates = list(torch._foreach_add(updates, parameters, alpha=group["weight_decay"]))
    torch._foreach_mul_(buffers, group["momentum"])
    if group["adapt"]:
        torch._foreach_addcmul_(buffers, updates, _factors(parameters, updates, group))
    else:
        torch._foreach_add_(buffers, updates)
    torch._foreach_add_(parameters, buffers, alpha=-group["lr"])


def _factors(parameters: list[Tensor], updates: list[Tensor], group: dict[str, Any]) -> list[Tensor]:
    """Each tensor's ``q``."""
    dtype = torch.promote_types(parameters[0].dtype, torch.float32)
    lengths, steps = (torch.stack(torch._foreach_norm(each, 2, dtype=dtype)) for each in (parameters, updates))
    factors = group["eta"] * lengths / steps
    if group["clip"]:
        factors = (factors / group["lr"]).clamp(max=1)  # 1 also where lr is 0
    return list(torch.where((lengths > 0) & (steps > 0), factors, 1.0).unbind())
