#!/bin/sh
# Proves the image's steps where there is no Docker daemon: sudo sh docker/rehearse.sh [DIR]
#
# Twice, each time from nothing: debootstrap makes a Debian with Python that stands in for the base
# image, and `make docker` builds docker/Dockerfile upon it, with podman in docker's place. The two
# must hold the same packages. Then the image's own user runs the health check, the entry point and
# a short demo without a network, and a user whom the image does not know detects objects.
#
# Needs root, debootstrap, podman, make, some 8 GB in DIR (/tmp/caffe-ssd-rehearsal) and a Debian
# mirror and package index; nothing is left behind. WHEELS is a folder where PyTorch's wheel is taken from
# instead of PyTorch's index; LOCK=extras builds with the optional packages; MIRROR is a Debian one.
set -eu

home=$(cd "$(dirname "$0")/.." && pwd)
dir=${1:-${TMPDIR:-/tmp}/caffe-ssd-rehearsal}
marker=.caffe_ssd_rehearsal
image=caffe-ssd:cpu
stranger=4321
container=caffe-ssd-rehearsal
base=$(sed -n 's/^ARG BASE=//p' "$home/docker/Dockerfile")  # as python:3.11-slim-bookworm
base=${base%%@*}
suite=${base##*-}
python=${base#*:}
python=${python%%-*}
certificates=/etc/ssl/certs/ca-certificates.crt

fail() {
    printf 'rehearse.sh: %s\n' "$*" >&2
    exit 1
}

say() {
    printf '%s  %s\n' "$(date +%H:%M:%S)" "$*"
}

# Run a command with its output in a log, whose end is shown if it fails.
quietly() {
    log=$dir/log
    "$@" >"$log" 2>&1 || { tail -n 40 "$log" >&2; fail "failed: $*"; }
}

demand() {
    if [ -e "$dir" ] && [ ! -e "$dir/$marker" ] && [ -n "$(ls -A "$dir")" ]; then
        fail "$dir exists and is no rehearsal; remove it or choose another folder: sh $0 DIR"
    fi
    [ "$(id -u)" = 0 ] || fail "needs root, for chroot and mounts: sudo sh $0"
    for tool in debootstrap podman make; do
        command -v "$tool" >/dev/null || fail "needs $tool: apt-get install debootstrap podman make"
    done
    [ -z "${WHEELS:-}" ] || [ -d "$WHEELS" ] || fail "WHEELS=$WHEELS is no folder"
}

# Whatever is mounted below a folder is not removed with it.
remove() {
    awk -v dir="$1/" 'index($2, dir) == 1 { print $2 }' /proc/mounts | sort -r |
        while read -r mount; do umount "$mount" || umount --lazy "$mount"; done
    rm -rf --one-file-system "$1"
}

clean() {
    if [ -e "$dir/bin/docker" ]; then
        docker rm --force --all >/dev/null 2>&1 || true
    fi
    for each in "$dir"/*; do remove "$each"; done
}

begin() {
    mkdir -p "$dir"
    dir=$(cd "$dir" && pwd -P)
    exec 9>>"$dir/$marker"
    flock --nonblock 9 || fail "another rehearsal is at work in $dir"
    trap 'clean && rm -rf --one-file-system "$dir"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    clean
    mkdir "$dir/bin" "$dir/cache"
    # Where both versions of cgroups are mounted, crun refuses; only this script loses sight of one.
    if mountpoint -q /sys/fs/cgroup/unified; then umount /sys/fs/cgroup/unified; fi
}

docker() {
    "$dir/bin/docker" "$@"
}

# podman in docker's place, for `make docker` too: its files are below DIR, its builds find this
# machine's certificates and wheels, its containers have no network, no cgroup, and limits that
# every machine allows.
put_podman_in_dockers_place() {
    storage=$dir/$1
    printf '[global]\nno-color = true\n' >"$dir/pip.conf"
    set -- --volume "$dir/pip.conf:/etc/pip.conf:ro"
    if [ -e "$certificates" ]; then
        echo "cert = $certificates" >>"$dir/pip.conf"
        set -- "$@" --volume "$certificates:$certificates:ro"
    fi
    if [ -n "${WHEELS:-}" ]; then
        echo "find-links = /wheels" >>"$dir/pip.conf"
        set -- "$@" --volume "$(cd "$WHEELS" && pwd):/wheels:ro"
    fi
    cat >"$dir/bin/docker" <<END
#!/bin/sh
export DISABLE_HC_SYSTEMD=true
verb=\$1
shift
case \$verb in
    build) set -- --isolation chroot --network host --pull=never --format docker \\
        --build-arg LOCK=${LOCK:-base} $* "\$@" ;;
    run) set -- --network none --cgroups disabled \\
        --ulimit nofile=8192:8192 --ulimit nproc=8192:8192 "\$@" ;;
esac
exec podman --root $storage/images --runroot $storage/run --tmpdir $storage/tmp \\
    --cgroup-manager cgroupfs --events-backend none "\$verb" "\$@"
END
    chmod +x "$dir/bin/docker"
}

# What stands in for the base image: Python below /usr/local, with a pip that may install there.
make_base() {
    root=$dir/root
    quietly debootstrap --variant=minbase --cache-dir="$dir/cache" \
        --include=ca-certificates,netbase,tzdata,python3,python3-venv \
        "$suite" "$root" ${MIRROR:+"$MIRROR"}
    quietly chroot "$root" python3 -m venv /usr/local
    found=$(chroot "$root" /usr/local/bin/python -c \
        'import sys; print("%d.%d" % sys.version_info[:2])')
    [ "$found" = "$python" ] || fail "Debian $suite has Python $found, the base image $python"
    tar -C "$root" --one-file-system -cf "$dir/root.tar" .
    quietly docker import "$dir/root.tar" "docker.io/library/$base"
    remove "$root"
    rm "$dir/root.tar"
}

megabytes() {
    echo $(($(docker image inspect --format '{{.Size}}' "$1") / 1000000))
}

packages() {
    docker run --rm --entrypoint sh "$image" -c \
        "dpkg-query --show && python -m pip --disable-pip-version-check freeze --all"
}

build() {
    put_podman_in_dockers_place "$1"
    begun=$(date +%s)
    make_base
    based=$(date +%s)
    say "build $1: Debian $suite with Python $python, $(megabytes "$base") MB, $((based - begun)) s"
    quietly env PATH="$dir/bin:$PATH" make -C "$home" docker ${WHEELS:+TORCH_CPU=}
    say "build $1: $image upon it, $(megabytes "$image") MB in all, $(($(date +%s) - based)) s"
    quietly docker run --rm --entrypoint python "$image" -m pip check
    packages >"$dir/packages.$1"
}

compare() {
    cmp -s "$dir/packages.1" "$dir/packages.2" || {
        diff "$dir/packages.1" "$dir/packages.2" >&2 || true
        fail "the two builds differ in packages"
    }
    python_packages=$(grep -cE '==| @ ' "$dir/packages.2")
    debian_packages=$(($(wc -l <"$dir/packages.2") - python_packages))
    say "both builds hold the same $debian_packages Debian and $python_packages Python packages:" \
        "$(grep '^torch==' "$dir/packages.2")"
}

check_user() {
    user=$(docker run --rm --entrypoint id "$image" -u)
    [ "$user" != 0 ] || fail "the image runs as root"
    # shellcheck disable=SC2016
    docker run --rm --volume demo:/workspace --volume data:/home/caffe/data \
        --entrypoint sh "$image" -euc '
            touch /workspace/x "$HOME/x" "$HOME/data/x"
            for folder in /opt/caffe-ssd /usr/local/bin; do
                if touch "$folder/x" 2>/dev/null; then echo "may write to $folder" >&2; exit 1; fi
            done' || fail "user $user may write too much or too little"
    say "user $user, who may write to /workspace, ~ and ~/data, and not to the package"
}

check_health() {
    docker run --detach --name "$container" --entrypoint sleep "$image" 600 >/dev/null
    docker healthcheck run "$container" || fail "the health check failed"
    docker rm --force --time 0 "$container" >/dev/null
    say "health check passed:" \
        "$(docker image inspect --format '{{json .HealthCheck.Test}}' "$image")"
}

# The demo as compose.yaml runs it, but short, in fresh volumes.
check_commands() {
    say "entry point: caffe --version says $(docker run --rm "$image" --version)"
    begun=$(date +%s)
    quietly docker run --rm --volume demo:/workspace \
        --env SHAPES_TRAIN=64 --env SHAPES_TEST=16 --env ITERATIONS=20 \
        --entrypoint sh "$image" /opt/caffe-ssd/examples/shapes/demo.sh /workspace/demo
    say "demo of 20 iterations: $(grep '^mAP' "$dir/log"), $(($(date +%s) - begun)) s"
}

# As with compose.yaml, where the folder is the caller's and the data are in a volume.
check_stranger() {
    mkdir "$dir/mounted"
    chown "$stranger" "$dir/mounted"
    weights=$(docker run --rm --volume demo:/demo --entrypoint sh "$image" -c \
        'find /demo -name "*_iter_20.caffemodel"')
    quietly docker run --rm --user "$stranger" --volume "$dir/mounted:/workspace" \
        --volume demo:/demo:ro "$image" detect /demo/demo/new/JPEGImages -output found \
        -model /demo/demo/model/deploy.prototxt -weights "$weights"
    say "user $stranger: caffe detect wrote $(find "$dir/mounted/found" -type f | wc -l) files to a mounted folder"
    ! grep -i warn "$dir/log" || fail "it warned"
    docker run --rm --user "$stranger" --volume data:/home/caffe/data --entrypoint sh "$image" -c \
        'touch ~/x ~/data/y' || fail "user $stranger may not write to the home of a user without name"
}

remaining() {
    cat <<END

Not proved here:
- Docker's own daemon and builder: podman $(podman --version | sed 's/.* //') built and ran the image
- $base itself: Debian's Python $python stood in for it; and its digest
- compose.yaml, whose commands and volumes were given by hand
- make docker-cuda: PyTorch for CUDA, and a GPU in a container
- cgroups (limits of memory and processors), a network in the container
- machines other than $(uname -m)
END
    if [ -n "${WHEELS:-}" ]; then
        echo "- PyTorch's index: its wheel came from a folder"
    fi
}

# In a mount namespace of its own, whose mounts end with it, however it ends.
if [ -z "${CAFFE_SSD_REHEARSAL:-}" ]; then
    demand
    CAFFE_SSD_REHEARSAL=1 exec unshare --mount --propagation private sh "$0" "$@"
fi
unset CAFFE_SSD_REHEARSAL
begin
say "$(uname -srm), $(nproc) processors, load $(cut -d' ' -f1 /proc/loadavg)"
build 1
remove "$dir/1"
build 2
compare
check_user
check_health
check_commands
check_stranger
remaining
