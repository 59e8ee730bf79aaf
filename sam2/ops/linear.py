"""Linear layers with what follows them in one kernel, on a CPU and without gradients.

oneDNN adds the bias and applies the activation while a tile of the product is still in the cache; PyTorch's
own linear layer writes the product to memory, copies the bias under it and reads it again for each of these.
The plain layer is the twin: it serves training, other devices and precisions, compilers and exporters. Under
autocast to bfloat16 the same kernels run in it, on processors that compute in it: twice as fast.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Activation = Callable[[Tensor], Tensor]

_VECTOR_UNITS = ("AVX2", "AVX512")
LEAST_ROWS = 32
"""Below this, arranging the weight for oneDNN costs more than the product gains."""
MANY_TOKENS = 1024
"""With fewer tokens a picture, the layers around memory keep the BLAS library's order of sums: videos of 256
pixels then give the bits of the plain layers, and large ones have the gain."""


def fusable(x: Tensor) -> bool:
    """Whether oneDNN's fused kernels may serve `x`: float32 on an x86 CPU, no gradients, nobody tracing."""
    return (
        not torch.compiler.is_compiling()  # first: a compiler cannot look into what follows
        and x.device.type == "cpu"
        and x.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
        and _serves(x)
    )


def fusable_in_bfloat16(x: Tensor) -> bool:
    """The same for autocast to bfloat16, where the CPU computes in it."""
    return (
        not torch.compiler.is_compiling()
        and x.device.type == "cpu"
        and x.dtype in (torch.float32, torch.bfloat16)
        and torch.is_autocast_enabled("cpu")
        and torch.get_autocast_dtype("cpu") == torch.bfloat16
        and _serves(x)
        and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    )


def _serves(x: Tensor) -> bool:
    return (
        not torch.is_grad_enabled()
        and bool(torch.backends.mkldnn.enabled)
        and torch.backends.mkldnn.is_available()
        and torch.backends.cpu.get_cpu_capability() in _VECTOR_UNITS
        and not torch.jit.is_tracing()
        and type(x) is Tensor
    )


def is_plain(layer: nn.Module) -> bool:
    """A linear layer as PyTorch makes it: not a subclass with a forward of its own, and without hooks."""
    return (
        type(layer) is nn.Linear
        and layer.weight.dtype == torch.float32
        and not layer._forward_hooks
        and not layer._forward_pre_hooks
    )


def _fused_activation(activation: Activation | None) -> tuple[str, str] | None:
    """The kernel's name for an activation and its algorithm; None where it has none."""
    if activation is None:
        return "none", ""
    if activation is F.relu or type(activation) is nn.ReLU:
        return "relu", ""
    if activation is F.gelu:
        return "gelu", "none"
    if type(activation) is nn.GELU:
        return "gelu", activation.approximate
    return None


def _many_rows(x: Tensor) -> bool:
    return x.numel() >= LEAST_ROWS * x.shape[-1]


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`x` [..., K] times the transpose of `weight` [N, K], plus `bias` [N]: [..., N]."""
    if fusable(x) and _many_rows(x):
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return F.linear(x, weight, bias)


def pointwise_pair(first: nn.Conv2d, second: nn.Conv2d, x: Tensor) -> Tensor:
    """`second(first(x))` for 1 x 1 convolutions and `x` [B, C, H, W]: W2 (W1 x) = (W2 W1) x."""
    outer, inner = second.weight.flatten(1), first.weight.flatten(1)
    assert first.bias is not None
    assert second.bias is not None
    bias = torch.addmv(second.bias, outer, first.bias)
    return product(x.permute(0, 2, 3, 1), outer @ inner, bias).permute(0, 3, 1, 2)


def is_pointwise(layer: nn.Module) -> bool:
    """A 1 x 1 convolution as PyTorch makes it, with a bias and without hooks."""
    return (
        type(layer) is nn.Conv2d
        and layer.kernel_size == layer.stride == (1, 1)
        and layer.padding == (0, 0)
        and layer.groups == 1
        and layer.bias is not None
        and not layer._forward_hooks
        and not layer._forward_pre_hooks
    )


def linear(layer: nn.Module, x: Tensor, activation: Activation | None = None) -> Tensor:
    """`activation(layer(x))` for a linear `layer` and `x` [..., K]: [..., N]."""
    kernel = _fused_activation(activation)
    rough = fusable_in_bfloat16(x)
    if kernel is not None and (rough or fusable(x)) and _many_rows(x) and is_plain(layer):
        name, algorithm = kernel
        weight, bias = layer.weight, layer.bias
        if rough:
            x, weight, bias = x.bfloat16(), weight.bfloat16(), None if bias is None else bias.bfloat16()
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, name, [], algorithm)
    y = layer(x)
    return y if activation is None else activation(y)


def linear_of_picture(
    layer: nn.Module, x: Tensor, tokens: int, activation: Activation | None = None
) -> Tensor:
    """`linear` where a picture has many `tokens`, else the plain layer."""
    if tokens >= MANY_TOKENS:
        return linear(layer, x, activation)
    y = layer(x)
    return y if activation is None else activation(y)
