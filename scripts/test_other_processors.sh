#!/usr/bin/env bash
# Tests the kernels and what is built on them as processors run them that this one is not, and under what finds wrong
# memory accesses. Each part says what it needs; results are right or wrong there, times mean nothing.
#
#   scripts/test_other_processors.sh aarch64|wasm|avx512|asan|miri...
#
#   aarch64  NEON, by qemu's user emulation                                             some minutes
#   wasm     32 bits, the vectors of WebAssembly and no threads, by Node                some minutes
#   avx512   AVX-512 with VNNI and VBMI2: Linux on the Ice Lake of the emulator Bochs    some minutes
#   asan     AddressSanitizer, with the instructions of this processor                  some minutes
#   miri     Miri: undefined behaviour and data races, with the baseline instructions   some minutes
#
# KERNEL=/boot/vmlinuz-... names the Linux kernel for avx512; without it the one of Debian or Ubuntu is downloaded.
set -euo pipefail
cd "$(dirname "$0")/.."
target="$(realpath -m "${CARGO_TARGET_DIR:-target}")"
crates=(-p skinny-sparsity -p skinny-kernels -p skinny-model -p skinny-runtime)
tests=(--release --no-fail-fast --lib --tests)

# need TEST CURE: stops with the cure unless the test succeeds.
need() {
    eval "$1" >/dev/null 2>&1 || { echo "this needs: $2" >&2; exit 1; }
}

need_target() {
    need "rustc --target $1 --print target-libdir | xargs ls" "rustup target add $1"
}

aarch64() {
    need "command -v qemu-aarch64-static aarch64-linux-gnu-gcc" \
        "apt-get install qemu-user-static gcc-aarch64-linux-gnu libc6-dev-arm64-cross"
    need_target aarch64-unknown-linux-gnu
    CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc \
        CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="qemu-aarch64-static -L /usr/aarch64-linux-gnu" \
        cargo test "${tests[@]}" --target aarch64-unknown-linux-gnu "${crates[@]}"
}

wasm() {
    need "node -e 'require(\"wasi\")'" "Node 20 or newer, for its module wasi"
    need_target wasm32-wasip1
    local run='
        const { WASI } = require("wasi");
        const args = process.argv.slice(1);
        const wasi = new WASI({ version: "preview1", args, env: process.env, preopens: { "/": "/" } });
        WebAssembly.instantiate(require("fs").readFileSync(args[0]), wasi.getImportObject())
            .then(({ instance }) => process.exit(wasi.start(instance)))
            .catch((error) => { console.error(error); process.exit(1); });'
    RUSTFLAGS="-C target-feature=+simd128" cargo test "${tests[@]}" --target wasm32-wasip1 "${crates[@]}" \
        --config "target.wasm32-wasip1.runner = ['node', '--no-warnings', '-e', '''$run''', '--']"
}

avx512() {
    local tools="bochs bochs-term bochsbios vgabios isolinux syslinux-common xorriso cpio busybox-static"
    need "dpkg -s $tools" "apt-get install $tools"
    need_target x86_64-unknown-linux-gnu
    local work="$target/avx512"
    rm -rf "$work" && mkdir -p "$work"/{disk,root/{bin,dev,proc,sys,tmp,tests}}

    # The tests, linked statically: the emulated machine has no libraries.
    RUSTFLAGS="-C target-feature=+crt-static" cargo test --release --no-run --lib --tests --message-format json \
        --target x86_64-unknown-linux-gnu -p skinny-kernels -p skinny-runtime |
        sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | xargs cp -t "$work/root/tests"

    if [ -z "${KERNEL:-}" ]; then
        (
            cd "$work"
            apt-get -qq download "$(apt-cache depends linux-image-cloud-amd64 linux-image-virtual 2>/dev/null |
                grep -om1 'linux-image-[0-9].*')"
            dpkg-deb -x linux-image-*.deb kernel
        )
        KERNEL="$(ls "$work"/kernel/boot/vmlinuz-*)"
    fi
    cp "$KERNEL" "$work/disk/vmlinuz"
    cp /usr/lib/ISOLINUX/isolinux.bin /usr/lib/syslinux/modules/bios/ldlinux.c32 "$work/disk"
    cp /bin/busybox "$work/root/bin"
    # Left out: a test of probabilities without vectors, tests of many short jobs, and large networks: hours here.
    cat >"$work/root/init" <<'INIT'
#!/bin/busybox sh
/bin/busybox mount -t proc none /proc
/bin/busybox mount -t devtmpfs none /dev
/bin/busybox mount -t tmpfs none /tmp
echo "##" $(/bin/busybox grep -o 'avx512[a-z0-9_]*' /proc/cpuinfo)
cd /tests
./skinny_kernels-* --nocapture the_environment_lowers
for test in *; do
    echo "## $test"
    ./$test --test-threads=1 --skip as_many_are_kept --skip thousands_of_jobs --skip instruction_set \
        --skip peak:: --skip costs:: --skip large_pictures --skip nins_match --skip resnet --skip measured || echo "## failed"
done
echo "## the end"
/bin/busybox sleep 2
/bin/busybox poweroff -f
INIT
    chmod +x "$work/root/init"
    (cd "$work/root" && find . | cpio --quiet -o -H newc | gzip -1 >../disk/initrd.gz)
    # Linux finds the sizes of the compact form of the saved registers and of the protection keys of this emulator wrong and
    # would switch AVX off: without the bits 321, 323, 515 and 516 (xsavec, xsaves, pku, ospke) it does not use them. Bit 580
    # (fsrm) and tables of five levels are off because it does not start with them.
    cat >"$work/disk/isolinux.cfg" <<'LINUX'
default linux
label linux
  kernel vmlinuz
  append initrd=initrd.gz console=ttyS0 clearcpuid=321,323,515,516,580 no5lvl nokaslr mitigations=off lpj=4000000 quiet panic=-1
LINUX
    xorriso -as mkisofs -quiet -o "$work/disk.iso" -b isolinux.bin -c boot.cat -no-emul-boot -boot-load-size 4 \
        -boot-info-table "$work/disk" 2>/dev/null

    cat >"$work/bochsrc" <<BOCHS
cpu: model=corei7_icelake_u, count=1, ips=50000000
memory: guest=512, host=512
romimage: file=/usr/share/bochs/BIOS-bochs-latest
vgaromimage: file=/usr/share/vgabios/vgabios.bin
ata0-master: type=cdrom, path=$work/disk.iso, status=inserted
boot: cdrom
com1: enabled=1, mode=file, dev=$work/output
sound: driver=dummy
speaker: enabled=0
display_library: term
panic: action=fatal
log: $work/bochs.log
BOCHS
    # Debian's Bochs waits at its debugger's prompt: c lets it go. It draws into a terminal of its own, which somebody must read.
    echo c >"$work/continue"
    : >"$work/output"
    TERM=xterm bochs -q -f "$work/bochsrc" -rc "$work/continue" </dev/null >"$work/bochs.out" 2>&1 &
    local bochs=$! screen="" reader=""
    tail -f --pid=$bochs "$work/output" | grep --line-buffered -a '^##\|test' &
    while kill -0 $bochs 2>/dev/null && ! grep -qa "^## the end" "$work/output"; do
        screen="$(grep -ao 'screen "[^"]*"' "$work/bochs.out" | cut -d'"' -f2 || true)"
        [ -n "$reader" ] || [ -z "$screen" ] || { cat "$screen" >/dev/null 2>&1 & reader=$!; }
        sleep 1
    done
    # SIGKILL: its debugger catches the others.
    kill -9 $bochs $reader 2>/dev/null || true
    wait || true
    if ! grep -qa "^## the end" "$work/output" || ! grep -qa "instruction set: Avx512" "$work/output" ||
        ! grep -qa "^## .*avx512_vbmi2.*avx512_vnni" "$work/output" ||
        grep -qa "^## failed" "$work/output"; then
        echo "avx512 FAILED: see $work/output and $work/bochs.out" >&2
        exit 1
    fi
}

asan() {
    need "cargo +nightly --version" "rustup toolchain install nightly --profile minimal"
    # The example in C is linked by the C compiler, which lacks the sanitizer of Rust's.
    CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS=true RUSTFLAGS="-Z sanitizer=address" cargo +nightly test "${tests[@]}" \
        --target x86_64-unknown-linux-gnu --target-dir "$target/asan" "${crates[@]}" -p skinny-c -- \
        --skip the_example_in_c --include-ignored
}

miri() {
    need "cargo +nightly miri --version" "rustup toolchain install nightly --profile minimal --component miri,rust-src"
    # Left out: products and jobs by the thousand, hours here; asan runs them, with every instruction set of this processor.
    MIRIFLAGS="-Zmiri-disable-isolation" cargo +nightly miri test --lib --target-dir "$target/miri" \
        -p skinny-kernels -- threads:: inference:: --skip products --skip many_columns --skip every_storage \
        --skip the_error_is --skip thousands
}

[ $# -gt 0 ] || { sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//p}' "$0" >&2; exit 2; }
for part in "$@"; do
    case "$part" in
    aarch64 | wasm | avx512 | asan | miri)
        echo "## $part"
        "$part"
        ;;
    *)
        echo "there is no part \"$part\": aarch64, wasm, avx512, asan or miri" >&2
        exit 2
        ;;
    esac
done
