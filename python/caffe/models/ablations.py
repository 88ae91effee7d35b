"""The ablation study of DSOD: each design choice alone, as bodies that can be trained.

Source: Shen et al., "DSOD: Learning Deeply Supervised Object Detectors from Scratch", table 3
(VOC07+12, tested on VOC2007). The paper does not give its bodies layer by layer; the catalogue says
how far their numbers of parameters agree.
"""

from caffe.models.dsod import DSOD300, DSOD300_PLAIN, DSOD300_SMALLEST, dense_body


def _plain(notation, blocks=(6, 8, 8, 8)):
    """Return a body with a plain front end and no stem."""
    body = _plain_with_stem(notation)
    return body._replace(stem=body.stem[:1], stem_kernel=7, blocks=blocks)


def _plain_with_stem(notation):
    return dense_body(notation, last_transition=None, dense_front=False)


# Row 1 first.
ABLATION_BODIES = (
    _plain("DS/32-12-16-0.5", blocks=(6, 8, 8)),
    _plain("DS/32-12-16-0.5"),
    _plain("DS/32-12-16-1"),
    _plain("DS/32-64-16-1"),
    _plain("DS/64-64-16-1"),
    _plain("DS/64-192-48-1"),
    _plain_with_stem("DS/64-12-16-1"),
    _plain_with_stem("DS/64-36-48-1"),
    DSOD300_PLAIN,
    DSOD300_SMALLEST,
    DSOD300,
)
