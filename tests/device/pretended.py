"""A pretended CUDA device on a CPU build of torch: real numbers, real autograd, CUDA's own rules.

`Tagged` says that it is on cuda:0 and holds its numbers in a CPU tensor. A dispatch mode sees every operation
below autograd and autocast (forward, backward, optimizer), refuses what a GPU would refuse, and notes what
makes the host wait. It knows nothing of kernels, streams, memory or speed. `torch_cuda.py` has the rest of
what a program sees of a GPU, and `on_device.py` starts a program on it.
"""

import guard
import torch
from ledger import BLOCKING, COPY, CPU_INDEX, LEDGER, SCALAR, WAIT, WIDER
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

if not guard.loaded:
    raise ImportError("start the program with tests/device/on_device.py")
DEVICE, HOST = torch.device("cuda", 0), torch.device("cpu")
# CUDA copies up to 64 KiB from any memory without waiting, where it is not asked to wait. Views are about so
# many times smaller here than in use, so less of them may rely on it.
SMALL_BYTES = (1 << 16) // 512

INDEXING = {
    "aten::index",
    "aten::index_put",
    "aten::index_put_",
    "aten::_index_put_impl_",
    "aten::_unsafe_index",
}
ANY_DEVICE = {"aten::copy_", "aten::_to_copy", "aten::set_", "aten::_has_compatible_shallow_copy_type"}
WAITING = {  # numbers leave the device, or a shape depends on them
    "aten::_local_scalar_dense",
    "aten::nonzero",
    "aten::masked_select",
    "aten::_unique2",
    "aten::unique_dim",
    "aten::unique_consecutive",
    "aten::bincount",
    "aten::_linalg_check_errors",
    "aten::equal",
    "aten::is_nonzero",
    "aten::_linalg_svd",
    "aten::linalg_eigvals",
    "aten::_linalg_eigh",
    "aten::histc",
    "aten::multinomial",
}
PINNED = {}  # address -> storage, held so that the address is not given to another


def pin(tensor):
    """Page-locked memory is a mark here."""
    storage = tensor.untyped_storage()
    PINNED[storage.data_ptr()] = storage
    return tensor


def is_pinned(tensor):
    return not isinstance(tensor, Tagged) and tensor.untyped_storage().data_ptr() in PINNED


class Tagged(torch.Tensor):
    """A tensor on cuda:0 whose numbers are in `elem`, on the CPU."""

    @staticmethod
    def __new__(cls, elem, requires_grad=False):
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            elem.shape,
            strides=elem.stride(),
            storage_offset=elem.storage_offset(),
            dtype=elem.dtype,
            layout=elem.layout,
            device=DEVICE,
            requires_grad=requires_grad,
        )
        made.elem = elem
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl

    def __tensor_flatten__(self):
        return ["elem"], None

    @staticmethod
    def __tensor_unflatten__(inner, meta, outer_size, outer_stride):
        return Tagged(inner["elem"])

    def tolist(self):
        LEDGER.note(WAIT, "tolist")
        return self.elem.tolist()

    def numpy(self, *, force=False):
        if force:
            return self.detach().cpu().numpy()
        why = "can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first"
        return LEDGER.refuse(why, TypeError)

    def __array__(self, dtype=None, copy=None):
        return self.numpy()

    def __reduce_ex__(self, protocol):
        LEDGER.note(WAIT, "torch.save")
        return self.elem.detach().__reduce_ex__(protocol)

    def __deepcopy__(self, memo):
        new = Tagged(self.elem.clone(), self.requires_grad)
        new.__dict__.update({k: v for k, v in self.__dict__.items() if k != "elem"})
        memo[id(self)] = new
        return new

    def __repr__(self, **_):
        return f"Tagged({tuple(self.elem.shape)}, {self.elem.dtype})"

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return MODE.run(func, args, kwargs or {})  # where torch has taken the mode away, as in torch.save


def tensors(x):
    """Those among the arguments of an operation, which are nested in lists at most."""
    if isinstance(x, torch.Tensor):
        return [x]
    return [y for each in x for y in tensors(each)] if isinstance(x, list | tuple) else []


def mapped(change, x):
    """The same with every tensor changed."""
    if isinstance(x, torch.Tensor):
        return change(x)
    return type(x)(mapped(change, each) for each in x) if isinstance(x, list | tuple) else x


def refusal(func, args, leaves):
    """Why a GPU would refuse this call; empty where it would not."""
    name = func._schema.name
    plain = [x for x in leaves if not isinstance(x, Tagged)]
    if len(plain) in (0, len(leaves)) or name in ANY_DEVICE:
        return ""
    if name in INDEXING:
        return index_refusal(func, args)
    if all(p.ndim == 0 for p in plain):
        if torch.Tag.pointwise in func.tags or name.startswith("aten::_foreach") or name == "aten::fill_":
            LEDGER.note(SCALAR, name)
            return ""
        return f"a 0-dimensional CPU tensor in an operation that is not pointwise: {func}"
    shapes = [tuple(p.shape) for p in plain]
    return (
        f"found at least two devices, cuda:0 and {plain[0].device} (CPU tensors of shapes {shapes}): {func}"
    )


def index_refusal(func, args):
    """The rules of x[i] and of x[i] = y: the indices may be on the CPU, a y of one number too."""
    target, indices = args[0], [i for i in args[1] if i is not None]
    on = isinstance(target, Tagged)
    if not on and any(isinstance(i, Tagged) for i in indices):
        return f"indices should be either on cpu or on the same device as the indexed tensor (cpu): {func}"
    if len(args) > 2 and isinstance(args[2], torch.Tensor):
        value = args[2]
        if isinstance(value, Tagged) != on and not (on and value.ndim == 0):
            return f"the values of an assignment are on another device than what they go into: {func}"
    return ""


def computed(func, args, kwargs):
    """The result of a CPU kernel, in float32 where it has no bfloat16."""
    try:
        return func(*args, **kwargs)
    except (RuntimeError, NotImplementedError) as error:
        if "not implemented for 'BFloat16'" not in str(error):
            raise
    LEDGER.note(WIDER, func._schema.name)
    with _disable_current_modes():
        wide = {name: mapped(widened, x) for name, x in kwargs.items()}
        out = func(*mapped(widened, args), **wide)
        return mapped(lambda x: x.bfloat16() if x.dtype == torch.float32 else x, out)


def widened(x):
    return x.float() if x.dtype == torch.bfloat16 else x


def bare(x):
    return x.elem if isinstance(x, Tagged) else x


def copied(source, to_device, non_blocking, target=None):
    """Note a copy between the two."""
    if to_device:
        soft = non_blocking and (is_pinned(source) or source.nbytes <= SMALL_BYTES)
        LEDGER.note(COPY if soft else BLOCKING, "copy to the device")
    else:
        soft = non_blocking and (target is None or is_pinned(target))
        LEDGER.note(COPY if soft else WAIT, "copy to the CPU")


def note(func, args, kwargs, on):
    """Write down what makes the host wait."""
    name = func._schema.name
    if name in ("aten::_to_copy", "aten::to"):  # the latter in inference mode
        if isinstance(args[0], Tagged) != on:
            copied(args[0], on, bool(kwargs.get("non_blocking")))
    elif name == "aten::copy_":
        target, source = args[0], args[1]
        soft = bool(kwargs.get("non_blocking") or (len(args) > 2 and args[2]))
        if isinstance(source, Tagged) != isinstance(target, Tagged):
            copied(source, isinstance(target, Tagged), soft, target)
    elif name in WAITING:
        LEDGER.note(WAIT, name)
    elif name in INDEXING:
        for index in [i for i in args[1] if i is not None]:
            if index.dtype in (torch.bool, torch.uint8):
                LEDGER.note(WAIT, "index by a mask")
            elif not isinstance(index, Tagged):
                LEDGER.note(BLOCKING, CPU_INDEX)


def named(func, args, kwargs):
    """A device has its name: in inference mode `to` arrives whole, with all that it was told by position."""
    if not any(isinstance(x, torch.device) for x in args):
        return args, kwargs
    rest = zip(func._schema.arguments[1:], args[1:], strict=False)
    return args[:1], {**{argument.name: x for argument, x in rest}, **kwargs}


class Dispatch(TorchDispatchMode):
    """Every operation, with CUDA's rules."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return self.run(func, args, kwargs or {})

    def run(self, func, args, kwargs):
        args, kwargs = named(func, args, kwargs)
        leaves = tensors([*args, *kwargs.values()])
        if why := refusal(func, args, leaves):
            LEDGER.refuse(why)
        tagged = on = any(isinstance(x, Tagged) for x in leaves)
        asked = dict(kwargs)
        if kwargs.get("device") is not None:
            on = torch.device(kwargs["device"]).type == DEVICE.type
            kwargs = {**kwargs, "device": HOST if on else kwargs["device"]}
        pinned = bool(kwargs.get("pin_memory"))
        if pinned:
            kwargs = {**kwargs, "pin_memory": False}
        if tagged or on:
            note(func, args, asked, on)
        out = computed(func, mapped(bare, args), {name: mapped(bare, x) for name, x in kwargs.items()})
        if pinned or (tagged and not on and asked.get("non_blocking")):
            pin(out)
        return wrapped(func, args, kwargs, out, on)


def wrapped(func, args, kwargs, out, on):
    """The result on its device; an operation in place gives the tensor that it was given."""
    returns = func._schema.returns
    if len(returns) == 1 and returns[0].alias_info is not None and returns[0].alias_info.is_write:
        which = returns[0].alias_info.before_set
        for i, argument in enumerate(func._schema.arguments):
            alias = argument.alias_info
            if alias is not None and alias.is_write and alias.before_set == which:
                return args[i] if i < len(args) else kwargs[argument.name]
    if not on:
        return out
    # A part of a tensor from outside of inference mode is no tensor of inference mode either.
    outside = any(r.alias_info is not None for r in returns) and not tensors(args)[0].is_inference()
    with torch.inference_mode(torch.is_inference_mode_enabled() and not outside):
        return mapped(lambda x: x if isinstance(x, Tagged) else Tagged(x), out)


GENERATORS = {}  # id -> those that were made for the device


class Generator(torch.Generator):
    """A generator that remembers its device."""

    def __new__(cls, device="cpu"):
        made = super().__new__(cls)
        if torch.device(device).type == DEVICE.type:
            GENERATORS[id(made)] = made
        return made

    def __init__(self, device="cpu"):
        self.pretended = torch.device(device)

    @property
    def device(self):
        return self.pretended


class Functions(TorchFunctionMode):
    """What has to be seen above autograd: generators, and tensors that are built from numbers."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if (generator := kwargs.get("generator")) is not None:
            check_generator(func, args, kwargs.get("device"), generator)
        if func in (torch.tensor, torch.as_tensor):
            device = kwargs.get("device")
            if device is not None and torch.device(device).type == DEVICE.type:
                rest = {k: v for k, v in kwargs.items() if k != "device"}
                made = func(*args, **rest)
                return made if isinstance(made, Tagged) else made.to(DEVICE)
        if func is torch.Tensor.new_tensor and isinstance(args[0], Tagged):
            dtype = kwargs.get("dtype", args[0].dtype)
            return torch.tensor(args[1], dtype=dtype).to(kwargs.get("device", DEVICE))
        return func(*args, **kwargs)


def check_generator(func, args, device, generator):
    """A draw and its generator are on one device."""
    here = bool(args and isinstance(args[0], Tagged)) or torch.device(device or "cpu").type == DEVICE.type
    if (id(generator) in GENERATORS) != here:
        kind = DEVICE.type if here else HOST.type
        LEDGER.refuse(f"Expected a '{kind}' device type for generator: {func.__name__}")


MODE = Dispatch()
