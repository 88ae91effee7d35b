#!/bin/sh
# From nothing to a detector in minutes, on two cores and no GPU: sh examples/shapes/demo.sh [OUT]
#
# Draws pictures of five kinds of shapes, makes LMDBs of them, generates a small DSOD, trains it
# from scratch, scores it on pictures it has not learned from, and lets it mark objects on new ones.
# Each command is shown before it runs. OUT (demo) gets everything; an older demo there is replaced.
#
# SHAPES_TRAIN, SHAPES_TEST (pictures) and ITERATIONS make it shorter or longer; another SEED starts
# from other weights.
set -eu

train=${SHAPES_TRAIN:-16000}
test=${SHAPES_TEST:-300}
iterations=${ITERATIONS:-2000}
seed=${SEED:-1}
out=${1:-demo}
begin=$(date +%s)
examples=$(cd "$(dirname "$0")/.." && pwd)

step() {
    printf '\n== %s\n' "$*"
}

run() {
    printf '\n$ %s\n' "$*"
    "$@"
}

if [ -e "$out" ] && [ ! -e "$out/.shapes_demo" ] && [ -n "$(ls -A "$out")" ]; then
    echo "$out exists and is no demo; remove it or choose another folder: sh $0 OUT" >&2
    exit 2
fi
rm -rf "$out"
mkdir -p "$out"
touch "$out/.shapes_demo"
cd "$out"

step "Data: pictures and annotations in VOC layout, and an LMDB for training and for testing"
run python -m lmdb_tools.shapes shapes --train "$train" --test "$test"
for part in trainval test; do
    run convert_annoset --anno_type=detection --label_map_file=shapes/labelmap_shapes.prototxt \
        --check_label --encode_type=jpg --encoded shapes/ "shapes/$part.txt" "shapes_${part}_lmdb"
done
run python -m lmdb_tools.inspect shapes_trainval_lmdb \
    --label-map shapes/labelmap_shapes.prototxt --show 24 --output training_pictures.png

step "Nets: the train, test and deploy prototxt of a narrow DSOD for 128x128 images, and its solver"
run python "$examples/shapes/DSOD_shapes.py" --no-run --gpu none \
    --max-iter "$iterations" --num-test-image "$test" --random-seed "$seed" \
    --model-dir model --job-dir job --output-dir results

step "Training, from scratch (the shell job of the script above runs the same command)"
run caffe train -solver model/solver.prototxt
prefix=$(sed -n 's/^snapshot_prefix: "\(.*\)"/\1/p' model/solver.prototxt)
weights=${prefix}_iter_$iterations.caffemodel

step "Score: average precision per class and mAP on the test pictures"
run caffe test -model model/test.prototxt -weights "$weights" 2>&1 | tee score.log

step "Detection: new, larger pictures"
run python -m lmdb_tools.shapes new --train 0 --test 3 --size 480 --seed 6
run caffe detect new/JPEGImages -model model/deploy.prototxt -weights "$weights" \
    -label_map shapes/labelmap_shapes.prototxt -output detections

step "Report: scores, curves, mistakes with their pictures, and how to use the detector, on one page"
run caffe report model/solver.prototxt -output report.html -speed off

map=$(sed -n 's/.*mAP (11point) = //p' score.log)
[ -n "$map" ] || { echo "caffe test gave no mAP, see $out/score.log" >&2; exit 1; }
minutes=$(( ($(date +%s) - begin + 30) / 60 ))
printf '\nmAP %s after %s minutes; what the net finds: %s\nreport: %s\n' \
    "$map" "$minutes" "$out/detections" "$out/report.html"
