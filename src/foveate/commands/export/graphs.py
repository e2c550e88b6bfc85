"""Graphs that run without foveate: ONNX and torch.export, of any batch and of any fitting image size."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, final

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from foveate.commands.export.config import ExportConfig
from foveate.commands.export.source import Source
from foveate.core.types import FoveateError, Normalisation
from foveate.views.pipeline import normalise

if TYPE_CHECKING:
    import onnx

NEEDED = ("onnx", "onnxscript")
LARGEST = 2_000_000_000  # bytes of an ONNX file
OWN = "foveate."  # before the keys of the metadata
TRACES = ("stack_trace", "source_fn_stack", "nn_module_stack", "from_node")  # where the code lies


@final
class EncoderGraph(nn.Module):
    """Images in [0, 1] to feature maps, fine to coarse."""

    def __init__(self, encoder: nn.Module, how: Normalisation) -> None:
        super().__init__()
        self.encoder, self.how = encoder, how

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """(B, C, *S) to (B, C_i, *S / stride_i)."""
        return tuple(self.encoder(normalise(images, self.how)))


@final
class TaskGraph(nn.Module):
    """Images in [0, 1] to what the activation is applied to."""

    def __init__(self, source: Source) -> None:
        super().__init__()
        assert source.task is not None
        self.task = source.task

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, *S) to (B, K, *S), or (B, K) for whole images."""
        return self.task.outputs(images)


def graph_of(source: Source) -> nn.Module:
    """The network with its normalisation."""
    if source.card["encoder"]["name"] == "swin":
        raise FoveateError(
            "RUN has the encoder swin, whose windows are cut for one image size; accepted: encoders of "
            "convolutions."
        )
    if source.task is not None:
        return TaskGraph(source).eval()
    if not source.card.get("normalisation"):
        raise FoveateError(
            "The card of RUN does not say how its input is normalised; accepted: one that does."
        )
    return EncoderGraph(source.encoder, source.card["normalisation"]).eval()


def traced(source: Source, target: str) -> ExportedProgram:
    """The graph with a free batch and free sizes, and without the places of the code it was made from."""
    stride = source.stride
    sizes = [(2 + i) * stride for i in range(source.dimension)]
    example = torch.zeros(2, source.card["in_channels"], *sizes)
    free = {i + 2: stride * Dim(f"{axis}_steps", min=2) for i, axis in enumerate(source.axes)}
    try:
        with torch.no_grad(), quiet():
            program = torch.export.export(
                graph_of(source), (example,), dynamic_shapes={"images": {0: Dim("batch"), **free}}
            )
    except (RuntimeError, ValueError, NotImplementedError, torch._dynamo.exc.TorchDynamoException) as error:
        raise FoveateError(
            f"--format {target}: torch cannot trace {source.card['encoder']['name']} with free image sizes "
            f"({type(error).__name__}); accepted here: encoders of convolutions."
        ) from error
    for module in program.graph_module.modules():
        if isinstance(module, torch.fx.GraphModule):
            for node in module.graph.nodes:
                for key in TRACES:
                    node.meta.pop(key, None)
    return program


@contextmanager
def quiet() -> Iterator[None]:
    """Without the exporter's own warnings: what it cannot do is an error."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def write_torch_export(source: Source, _config: ExportConfig, path: Path) -> list[str]:
    """A .pt2 of torch.export, with the card inside."""
    program = traced(source, "torch-export")
    extra = {"card.json": json.dumps(source.card), "described.json": json.dumps(source.described())}
    with quiet(), path.open("wb") as stream:
        torch.export.save(program, stream, extra_files=extra)
    return [*summary(source), f'Next: torch.export.load("{path.name}").module()(images)']


def write_onnx(source: Source, _config: ExportConfig, path: Path) -> list[str]:
    """An ONNX model with the card and what is known of its input in the metadata."""
    if absent := [name for name in NEEDED if find_spec(name) is None]:
        raise FoveateError(f"--format onnx needs {' and '.join(absent)}: `pip install 'foveate[onnx]'`.")
    size = sum(tensor.numel() * tensor.element_size() for tensor in source.tensors.values())
    if size > LARGEST:
        raise FoveateError(f"--format onnx: {size:,} bytes of weights; accepted are at most {LARGEST:,}.")
    import onnx

    with quiet():
        made = torch.onnx.export(
            traced(source, "onnx"),
            dynamo=True,
            input_names=["images"],
            output_names=list(source.outputs()),
            external_data=False,
            verbose=False,
        )
    assert made is not None
    model = made.model_proto
    forget_places(model.graph)
    for function in model.functions:
        forget_places(function)
    said = {"described": json.dumps(source.described()), "card": json.dumps(source.card, sort_keys=True)}
    for key, text in said.items():
        model.metadata_props.add(key=f"{OWN}{key}", value=text)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    return [*summary(source), f'Next: onnxruntime.InferenceSession("{path.name}").run(None, {{"images": x}})']


def summary(source: Source) -> list[str]:
    """What the graph takes and gives."""
    said = source.described()
    outputs = ", ".join(said["outputs"] if source.task is None else said["outputs"]["outputs"]["names"])
    return [f"takes images {said['input']}; {said['sizes']}", f"gives {outputs}"]


def forget_places(graph: onnx.GraphProto | onnx.FunctionProto) -> None:
    """Drop where in the code a node was made: files of this machine."""
    graph.doc_string = ""
    for node in graph.node:
        node.doc_string = ""
        node.ClearField("metadata_props")
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                if inner.node:
                    forget_places(inner)
    for value in graph.value_info:
        value.ClearField("metadata_props")
    graph.ClearField("metadata_props")
