"""`caffe serve`: a detector behind HTTP, with a page to try it.

An addition to the reference's actions.
"""

from __future__ import annotations

import argparse
import ipaddress
import logging
import socket
from pathlib import Path

from caffe_ssd.cli.detector_flags import detector_of
from caffe_ssd.cli.flags import (
    ActionParser,
    add_engine_flags,
    add_lenient_flag,
    add_pixel_flags,
    add_unfilled_flag,
    at_least,
    check_files,
    required,
)
from caffe_ssd.desk.console import show
from caffe_ssd.desk.flags import about_flag
from caffe_ssd.distribution import install_hint
from caffe_ssd.errors import UsageError
from caffe_ssd.scoring.detector import check_threshold
from caffe_ssd.scoring.engine_choice import AUTO

logger = logging.getLogger(__name__)

DESCRIPTION = """\
Serve a detector over HTTP: POST /detect takes a picture and answers with JSON, / is a page to try
it, /healthz and /metrics are for machines. It listens to this machine only, unless -host says
otherwise."""
EXAMPLES = """\
  caffe serve -model deploy.prototxt -weights net.caffemodel -label_map labelmap_voc.prototxt
  curl --data-binary @street.jpg 'http://127.0.0.1:8000/detect?threshold=0.4'"""

_MIB = 1 << 20


def run(arguments: list[str]) -> int:
    """Run the action until it is interrupted; returns the exit status."""
    args = _parse(arguments)
    try:
        import uvicorn

        from caffe_ssd.serving.app import Limits, make_app
    except ImportError as error:
        raise UsageError(f"serving needs {error.name}: {install_hint('serve')}") from error
    check_files(args, "model", "weights")
    listener = _listen(args.host, args.port)
    with listener:
        limits = Limits(max_bytes=int(args.max_mib * _MIB), max_waiting=args.max_waiting)
        app = make_app(detector_of(args), limits=limits, name=Path(args.model).name)
        host, port = listener.getsockname()[:2]
        if not ipaddress.ip_address(host).is_loopback:
            logger.warning("Whoever reaches this machine may use the server")
        show(f"http://{f'[{host}]' if ':' in host else host}:{port}/")
        config = uvicorn.Config(app, log_config=None, access_log=False)
        try:
            uvicorn.Server(config).run(sockets=[listener])
        except KeyboardInterrupt:
            logger.info("Stopped")
    return 0


def _listen(host: str, port: int) -> socket.socket:
    """A socket that waits for clients.

    Raises:
        UsageError: there is no such address, or somebody else uses it.
    """
    try:
        place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(place[4][:2], family=place[0])
    except OSError as error:
        raise UsageError(f"cannot listen on {host} port {port}: {error}") from error


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = ActionParser("serve", description=DESCRIPTION, examples=EXAMPLES)
    parser.add_reference_flags("model", "weights", "gpu")
    add = parser.add_flag
    add("host", default="127.0.0.1", help="address to listen on (%(default)s)")
    add("port", type=int, default=8000, help="port to listen on; 0 is any free one (%(default)s)")
    add("label_map", metavar="FILE", help="class names, a label map in prototxt")
    add("threshold", type=float, default=0.5, help="lowest score to show (%(default)s)")
    add("batch", type=int, default=8, help="most pictures in one pass (%(default)s)")
    add("max_mib", type=float, default=16, help="largest picture file, in MiB (%(default)s)")
    add("max_waiting", type=int, default=64, help="most requests at a time (%(default)s)")
    add_pixel_flags(parser)
    add_engine_flags(parser, AUTO)
    add_unfilled_flag(parser)
    add_lenient_flag(parser)
    args = parser.parse_action(arguments)
    required(args, "model", "weights")
    at_least(args, "batch", 1)
    at_least(args, "max_waiting", 1)
    if not 0 <= args.port < 1 << 16:
        raise UsageError(f"-port must be 0 to 65535, got {args.port}")
    with about_flag("threshold"):
        check_threshold(args.threshold)
    return args
