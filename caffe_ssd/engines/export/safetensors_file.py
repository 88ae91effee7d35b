"""safetensors: the weights, every blob under `<layer>.<index>`, in the net's own layout.

The index is pycaffe's: `net.params[layer][index]`. A blob that several layers share is written
once, under the name of the first.
"""

from __future__ import annotations

from pathlib import Path

from caffe_ssd.distribution import install_hint
from caffe_ssd.engines.export.part import Request
from caffe_ssd.errors import UsageError
from caffe_ssd.files import atomic_write
from caffe_ssd.net.blob_copy import identity


def write_safetensors(request: Request, path: Path) -> list[str]:
    """Write the file.

    Args:
        request: whose net's weights.
        path: the file.

    Returns:
        What was written, in lines.

    Raises:
        UsageError: the package safetensors is missing, or two layers with weights have one name.
    """
    try:
        from safetensors.torch import save
    except ImportError as error:
        raise UsageError(
            f"safetensors files are written with their package: {install_hint('safetensors')}"
        ) from error
    blobs = {}
    seen: set[int] = set()
    for layer, own in request.net.layer_blobs():
        for index, blob in enumerate(own):
            if identity(blob) in seen:
                continue
            seen.add(identity(blob))
            name = f"{layer}.{index}"
            if name in blobs:
                raise UsageError(f"two layers with weights are named {layer!r}; rename one")
            blobs[name] = blob.detach().contiguous()
    atomic_write(path, save(blobs, {"format": "pt", "net": request.name}))
    count = sum(blob.numel() for blob in blobs.values())
    size = path.stat().st_size / 1e6
    return [f"wrote {path} ({size:.1f} MB): {len(blobs)} blobs, {count} numbers"]
