"""The synthetic shapes of `python -m lmdb_tools.shapes`, for detectors that learn in minutes.

Five kinds of shapes. Pictures are scaled to 128 px; four maps are predicted from.
"""

from caffe.models.datasets import VOC0712, Augmentation, PriorRatios
from caffe.models.recipe import Schedule
from caffe.models.ssd import DetectorSpec

SHAPES = VOC0712._replace(
    name="shapes",
    train_data="shapes_trainval_lmdb",
    test_data="shapes_test_lmdb",
    label_map="shapes/labelmap_shapes.prototxt",
    name_size_file="shapes/test_name_size.txt",
    num_test_image=300,
    num_classes=6,
    results="data/shapes/results/{job}",
    # Sides of objects are 11 to 60 percent of the image's: all but 0.3 percent of the objects
    # overlap a prior by half or more.
    prior_ratios=PriorRatios(first=(15, 32), lowest=32, highest=80),
    # The pictures vary by themselves, more of them cost less than crops, and minutes are short.
    augmentation=Augmentation(distortion=False, max_expand_ratio=1, crops=False),
    preparation="sh examples/shapes/demo.sh OUT",
)

# The smallest objects are then two steps of the first map wide. At 96 px a third more were missed.
IMAGE_SIZE = 128


def shapes_detector(body, **fields):
    """Return a net of four maps for the shapes.

    Args:
        body: see `DetectorSpec`.
        fields: of `DetectorSpec`.
    """
    detector = DetectorSpec(
        body=body,
        image_size=IMAGE_SIZE,
        steps=(8, 16, 32, 64),  # maps of 16, 8, 4 and 2 rows
        aspect_ratios=((1.5,),) * 4,
        statistics_kept=0.99,
    )
    return detector._replace(**fields)


def shapes_schedule():
    """Return a training of minutes on two cores."""
    return Schedule(
        solver_type="Adam",  # in so few iterations well before SGD at any rate
        base_lr=0.004,
        stepvalues=(1300, 1760),
        max_iter=2000,
        test_interval=500,
        snapshot=500,
        batch_size=16,
        accum_batch_size=16,
        test_batch_size=20,
        num_devices=1,
        random_seed=1,
    )
