"""`python -m lmdb_tools`: which tools there are."""

from __future__ import annotations

TOOLS = {
    "data sets": {
        "make_lmdb": "train and test LMDBs of VOC, COCO or your own VOC folder, in one go",
        "make_lists": "only the lists, the sizes of test images and the label map",
        "split_coco": "COCO's annotation files, cut into one file per image",
        "shapes": "a synthetic data set, drawn in seconds",
    },
    "single steps": {
        "convert_annoset": "a list of images and annotations -> LMDB",
        "create_annoset": "the same with checks, and a link to the LMDB",
        "convert_imageset": "a list of images and class numbers -> LMDB of Datum, for Data layers",
        "compute_image_mean": "the mean image of an LMDB -> binaryproto",
        "create_label_map": "class names -> label map prototxt",
        "get_image_size": "the sizes of a list's images",
    },
    "a look inside": {
        "inspect": "what an LMDB holds; draws some of its images with their boxes",
    },
}


def main() -> int:
    """Print the index."""
    print("Data set tools. Each explains itself: python -m lmdb_tools.NAME --help")
    for title, tools in TOOLS.items():
        print(f"\n{title}:")
        for name, what in tools.items():
            print(f"  {name:<18}{what}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
