"""VideoData: batches of frames of a video file or a camera; the second top, if any, is 0.

Spec: ssd-layers.md section 9; the reading is data/video.py.
Quirk: after the last frame the process gets SIGINT. `caffe train` then saves and stops; elsewhere
    it is a KeyboardInterrupt, unless somebody handles the signal.
Quirk: every device reads the whole video.

The signal comes when a batch is asked for after the one with the last frame. That one is filled up
with frames from the beginning, and so are those after it where the signal ends nothing.
"""

from __future__ import annotations

import logging
import signal
from dataclasses import replace

from torch import Tensor

from caffe_ssd.data.batches import LabelKind
from caffe_ssd.data.loader import BatchLoader
from caffe_ssd.data.records import RecordSource
from caffe_ssd.data.samples import parse_datum
from caffe_ssd.data.transform import Transform
from caffe_ssd.data.video import CameraFrames, VideoFrames
from caffe_ssd.errors import LayerParamError
from caffe_ssd.layers.data import RecordLayer, build_record_layer
from caffe_ssd.layers.registry import LayerSpec, Shape, register_layer
from caffe_ssd.layers.run_context import RunContext
from caffe_ssd.proto.caffe_pb2 import VideoDataParameter

_log = logging.getLogger(__name__)


class VideoData(RecordLayer):
    """The layer.

    Args:
        loader: reads the batches.
        shapes: of the tops, before the first batch.
        num_frames: how many frames are shown before the signal.
    """

    def __init__(self, loader: BatchLoader, shapes: tuple[Shape, ...], num_frames: int) -> None:
        super().__init__(loader, shapes)
        self.num_frames = num_frames
        self.batch_size = shapes[0][0]
        self._batch = self._ended = 0

    def forward(self, context: RunContext | None = None) -> Tensor | tuple[Tensor, ...]:
        """The next batch.

        Raises:
            KeyboardInterrupt: the video has ended and nobody handles SIGINT.
        """
        passes = self._passes(self._batch)
        if passes > self._ended:
            self._ended = passes
            _log.info("Finished processing video.")
            signal.raise_signal(signal.SIGINT)
        tops = super().forward(context)
        self._batch += 1
        return tops

    def seek(self, batch: int) -> None:
        super().seek(batch)
        self._batch = batch
        self._ended = self._passes(batch)

    def _passes(self, batch: int) -> int:
        """How often the video has ended before this batch."""
        return batch * self.batch_size // self.num_frames


@register_layer("VideoData", bottoms=0, tops=range(1, 3))
def _build(spec: LayerSpec) -> VideoData:
    param = spec.param
    source = _open(param.video_data_param)
    layer = build_record_layer(
        # Frames come one after the other, so several workers would each decode all of them.
        replace(spec, runtime=replace(spec.runtime, rank=0, world_size=1, data_workers=0)),
        source=source,
        parse=parse_datum,
        transform=Transform.from_param(
            param.transform_param, is_train=spec.is_train, augment=False
        ),
        label=LabelKind.CLASS,
        label_shape=(param.data_param.batch_size,),
        reader_thread=False,
    )
    return VideoData(layer.loader, layer.shapes, len(source))


def _open(param: VideoDataParameter) -> RecordSource:
    if param.video_type == VideoDataParameter.WEBCAM:
        return CameraFrames(param.device_id, skip_frames=param.skip_frames)
    if not param.video_file:
        raise LayerParamError("video_data_param.video_file is not set; it names a video")
    return VideoFrames(param.video_file, skip_frames=param.skip_frames)
