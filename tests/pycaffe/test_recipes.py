"""The published trainings against the recorded nets and solvers, and all the others they allow."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from caffe.models import datasets, ssd
from caffe.models.dsod_recipes import DSOD
from caffe.models.grp_dsod_recipes import GRP_DSOD
from caffe.models.recipe import (
    Family,
    Recipe,
    default_places,
    make_nets,
    make_scoring_solver,
    make_solver,
)
from caffe.models.scratchdet_recipes import SCRATCHDET
from caffe.models.ssd_recipes import SSD
from caffe.proto import caffe_pb2
from google.protobuf.json_format import ParseDict

from tests.support.golden import GOLDEN

PUBLISHED = {
    "DSOD300_pascal": DSOD.trainings["VOC0712"],
    "DSOD300_pascal++": DSOD.trainings["VOC0712Plus"],
    "DSOD300_coco": DSOD.trainings["coco"],
    "GRP_DSOD320_pascal": GRP_DSOD.trainings["VOC0712"],
    "ssd_pascal": SSD.trainings["VOC0712"],
    "scratchdet_pascal": SCRATCHDET.trainings["VOC0712"],
    "scratchdet_coco": SCRATCHDET.trainings["coco"],
}
FAMILIES = (DSOD, GRP_DSOD, SSD, SCRATCHDET)
ALL = [
    pytest.param(family, data, variant, id=f"{family.name}-{data}-{variant}")
    for family in FAMILIES
    for data in family.trainings
    for variant in family.variants
    if data in ("VOC0712", "coco", "shapes")
    if "ablation" not in variant
]


def published(folder: str) -> Recipe:
    family = next(f for f in FAMILIES if PUBLISHED[folder] in f.trainings.values())
    return PUBLISHED[folder](family.variants[0])


def recorded(folder: str, name: str, message: Any) -> Any:
    text = (GOLDEN / "nets" / folder / f"{name}.json").read_text(encoding="utf-8")
    return ParseDict(json.loads(text), message)


@pytest.mark.parametrize("kind", ["train", "test", "deploy"])
@pytest.mark.parametrize("folder", PUBLISHED)
def test_published_nets(folder: str, kind: str) -> None:
    recipe = published(folder)
    data = recipe.dataset._replace(train_data="<train_data>", test_data="<test_data>")
    nets = make_nets(recipe._replace(dataset=data), "<output_dir>")
    assert nets[kind] == recorded(folder, kind, caffe_pb2.NetParameter())


@pytest.mark.parametrize("folder", PUBLISHED)
def test_published_solvers(folder: str) -> None:
    recipe = published(folder)
    solver = make_solver(recipe, default_places(recipe), list(range(recipe.schedule.num_devices)))
    assert solver == recorded(folder, "solver", caffe_pb2.SolverParameter())


@pytest.mark.parametrize("folder", PUBLISHED)
def test_published_results_folder(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "<HOME>")
    paths = json.loads((GOLDEN / "nets" / folder / "paths.json").read_text())
    expected = paths["placeholders"]["<output_dir>"]
    if folder == "DSOD300_pascal++":  # theirs is that of VOC0712, whose results it overwrites
        expected = expected.replace("VOC2007", "VOC2012")
    assert default_places(published(folder)).output_dir == expected


@pytest.mark.parametrize(("family", "data", "variant"), ALL)
def test_every_training_has_nets_for_its_classes(family: Family, data: str, variant: str) -> None:
    recipe = family.recipe(data, variant)
    nets = make_nets(recipe, "results")
    loss = nets["train"].layer[-1].multibox_loss_param
    assert loss.num_classes == {"VOC0712": 21, "coco": 81, "shapes": 6}[data]
    names = [layer.name for layer in nets["deploy"].layer]
    assert len(names) == len(set(names))
    priors = [layer.prior_box_param for layer in nets["deploy"].layer if layer.type == "PriorBox"]
    assert len(priors) == len(recipe.detector.body.sources) == len(recipe.detector.steps)
    side = recipe.detector.image_size
    assert list(nets["deploy"].input_shape[0].dim) == [1, 3, side, side]
    assert [prior.step for prior in priors] == list(recipe.detector.steps)


def test_trainings_have_folders_of_their_own() -> None:
    folders = [
        default_places(family.recipe(data, variant)).model_dir
        for family in FAMILIES
        for data in family.trainings
        for variant in family.variants
    ]
    assert len(folders) == len(set(folders))


@pytest.mark.parametrize("data", ["VOC0712Plus", "VOC12"])
def test_tests_without_public_annotations_never_run(data: str) -> None:
    for family in FAMILIES:
        if data in family.trainings:
            schedule = family.recipe(data, family.variants[0]).schedule
            assert schedule.test_interval is not None
            assert schedule.test_interval > schedule.max_iter
            assert not schedule.test_initialization


def test_training_without_test_net_can_be_scored() -> None:
    recipe = SCRATCHDET.recipe("coco", "res34")
    solver = make_scoring_solver(recipe, default_places(recipe), [])
    assert list(solver.test_iter) == [2500]
    assert (solver.max_iter, solver.test_initialization, solver.eval_type) == (0, True, "detection")


def test_prior_sizes_of_large_images() -> None:
    lowest, highest = datasets.VOC0712.ratios_for(512).sizes(512, 7)
    assert lowest == pytest.approx([35.84, 76.8, 153.6, 230.4, 307.2, 384, 460.8])
    assert highest == pytest.approx([76.8, 153.6, 230.4, 307.2, 384, 460.8, 537.6])
    lowest, _ = datasets.COCO.ratios_for(512).sizes(512, 7)
    assert lowest == pytest.approx([20.48, 51.2, 133.12, 215.04, 296.96, 378.88, 460.8])


def test_prior_sizes_of_few_maps() -> None:
    lowest, highest = datasets.VOC0712.prior_ratios.sizes(100, 4)
    assert lowest == [10, 20, 55, 90]
    assert highest == [20, 55, 90, 125]
    with pytest.raises(ValueError, match="at least 3 maps, got 2"):
        datasets.VOC0712.prior_ratios.sizes(100, 2)


def test_data_sets_of_the_project_have_label_maps() -> None:
    root = Path(__file__).resolve().parents[2]
    for dataset in (datasets.VOC0712, datasets.VOC0712_PLUS, datasets.VOC12, datasets.COCO):
        assert datasets.count_classes(str(root / dataset.label_map)) == dataset.num_classes


def test_unknown_names() -> None:
    with pytest.raises(ValueError, match=r"variant must be one of DSOD300, lite.* got 'huge'"):
        DSOD.recipe("coco", "huge")
    with pytest.raises(ValueError, match=r"data set must be one of VOC0712,.* got 'VOC2007'"):
        SSD.recipe("VOC2007", "SSD300")


def test_deploy_net_leaves_the_test_net_alone() -> None:
    recipe = DSOD.recipe("VOC0712", "tiny")
    test = ssd.test_net(recipe.detector, recipe.dataset, 2, "results")
    before = len(test.layer)
    deploy = ssd.deploy_net(recipe.detector, test)
    assert len(test.layer) == before == len(deploy.layer) + 2
