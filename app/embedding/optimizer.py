"""The step of stochastic gradient descent with momentum and weight decay, for training and for attacks.

The same arithmetic as torch.optim.SGD, bit for bit. Torch's own optimizers load its compiler at their first step, 820
modules and a second of processor time, which every child that trains would spend on compiling nothing.

Invariants: a parameter without a gradient is left as it is, and gets no momentum.
Source: Sutskever et al. 2013 as torch.optim.SGD has it: no dampening, the rate is applied after the momentum.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn


class Descent:
    """What steps the parameters of one network; `rate` may be changed between steps."""

    def __init__(
        self, parameters: Iterable[nn.Parameter], *, rate: float, momentum: float, weight_decay: float
    ) -> None:
        """Begin with no momentum."""
        self.rate = rate
        # A parameter's momentum, of its shape, once it has been stepped.
        self.momenta: dict[Tensor, Tensor] = {}
        self._parameters = list(parameters)
        self._momentum, self._weight_decay = momentum, weight_decay

    @torch.no_grad()
    def step(self) -> None:
        """Step every parameter that has a gradient."""
        stepped = [(parameter, parameter.grad) for parameter in self._parameters if parameter.grad is not None]
        if not stepped:
            return
        parameters: list[Tensor] = [parameter for parameter, _ in stepped]
        gradients = [gradient for _, gradient in stepped]
        if self._weight_decay:
            gradients = list(torch._foreach_add(gradients, parameters, alpha=self._weight_decay))  # noqa: SLF001  # no public name
        if self._momentum:
            gradients = self._carried_on(parameters, gradients)
        torch._foreach_add_(parameters, gradients, alpha=-self.rate)

    def clear_gradients(self) -> None:
        """Forget the gradients."""
        for parameter in self._parameters:
            parameter.grad = None

    def _carried_on(self, parameters: list[Tensor], gradients: list[Tensor]) -> list[Tensor]:
        known = [place for place, parameter in enumerate(parameters) if parameter in self.momenta]
        momenta = [self.momenta[parameters[place]] for place in known]
        if known:
            torch._foreach_mul_(momenta, self._momentum)
            torch._foreach_add_(momenta, [gradients[place] for place in known])
        for parameter, gradient in zip(parameters, gradients, strict=True):
            if parameter not in self.momenta:
                self.momenta[parameter] = gradient.clone()
        return [self.momenta[parameter] for parameter in parameters]
