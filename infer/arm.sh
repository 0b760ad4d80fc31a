#!/bin/bash
# infer/arm.sh: builds the edge engine for 64-bit Arm and tests it on three emulated processors.
#
#   max         everything: dot product, int8 matrix multiply, bf16, SVE2
#   cortex-a76  dot product (phones and boards since 2018)
#   cortex-a53  plain NEON (the oldest 64-bit cores)
#
# An instruction that a processor lacks ends the emulated program, so this tests the run-time dispatch for real.
# All crates of the edge engine are tested on max; on the others the two whose code depends on the processor.
# Works by itself on a fresh Debian 12 x86-64 machine with rustup (it then needs root, for apt); what is there already
# is used as it is:
#   - a Rust for the target: the default toolchain's (`rustup target add aarch64-unknown-linux-gnu`), else a toolchain
#     named armcross, else Debian's own rustc-web packages unpacked (not installed: they would conflict with rustup's
#     packages) under RETORT_ARM_PREFIX and linked as the toolchain armcross;
#   - the cross linker and C library, and qemu-user.
#
# RETORT_ARM_PREFIX  where Debian's Rust is unpacked (default /opt/armcross)
# RETORT_ARM_CPUS    processors to emulate (default "max cortex-a76 cortex-a53")
set -euo pipefail
cd "$(dirname "$0")/.."

target=aarch64-unknown-linux-gnu
crates=(-p retort-format -p retort-kernels -p retort-engine -p retort-convert -p retort-serve -p retort-edge)
prefix=${RETORT_ARM_PREFIX:-/opt/armcross}
sysroot=/usr/aarch64-linux-gnu
toolchain=

say() { echo "arm.sh: $*" >&2; }

install_packages() {
    local missing=()
    command -v aarch64-linux-gnu-gcc >/dev/null || missing+=(gcc-aarch64-linux-gnu)
    command -v qemu-aarch64 >/dev/null || missing+=(qemu-user)
    # The start files are in the -dev package; the C library alone may be there without it.
    [ -e $sysroot/lib/Scrt1.o ] || missing+=(libc6-dev-arm64-cross)
    [ ${#missing[@]} -eq 0 ] && return
    say "installing ${missing[*]}"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

# Whether the compiler (with the given arguments, such as +armcross) has a standard library for the target.
has_target() {
    local libdir
    libdir=$(rustc "$@" --print target-libdir --target $target 2>/dev/null) && compgen -G "$libdir/libstd-*.rlib" >/dev/null
}

# Debian's Rust, cross standard library included, as a rustup toolchain; dpkg's state and apt's lists stay as they are.
unpack_rust() {
    say "unpacking Debian's Rust for $target under $prefix"
    mkdir -p "$prefix"/debs "$prefix"/apt/lists/partial
    local apt=(-oAPT::Architecture=amd64 -oAPT::Architectures=amd64,arm64 -oDir::State::Lists="$prefix/apt/lists" -oAPT::Sandbox::User=root)
    apt-get "${apt[@]}" update -qq
    local version library llvm
    version=$(apt-cache "${apt[@]}" policy rustc-web | awk '/Candidate/ { print $2 }')
    if [ -z "$version" ] || [ "$version" = "(none)" ]; then
        say "no rustc-web package here; run: rustup target add $target"
        exit 1
    fi
    library=libstd-rust-web-$(cut -d. -f1,2 <<<"$version")
    # Which of the two packages names LLVM has changed between versions.
    llvm=$(apt-cache "${apt[@]}" depends rustc-web "$library" | awk '/Depends: libllvm/ { print $2; exit }')
    if [ -n "$llvm" ]; then
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$llvm" >/dev/null
    fi
    (
        cd "$prefix/debs"
        apt-get "${apt[@]}" download -qq rustc-web="$version" libstd-rust-web-dev="$version" "$library=$version" libstd-rust-web-dev:arm64="$version" ||
            apt-get "${apt[@]}" download -qq rustc-web libstd-rust-web-dev "$library" libstd-rust-web-dev:arm64
        for package in *.deb; do dpkg -x "$package" "$prefix"; done
        rm -f -- *.deb
    )
    local file
    for file in "$prefix"/usr/lib/x86_64-linux-gnu/*; do ln -sf "x86_64-linux-gnu/$(basename "$file")" "$prefix/usr/lib/"; done
    ln -sf "$(rustup which cargo)" "$prefix/usr/bin/cargo"
    rustup toolchain link armcross "$prefix/usr"
}

if [ "$(uname -m)" = aarch64 ]; then
    say "this is an Arm machine: testing on it, without emulation"
    exec cargo test --release "${crates[@]}"
fi

# The test executables of the crate in infer/$1. Naming fewer crates to cargo would choose other features, and build
# them once more.
test_executables() {
    cargo $toolchain test --release "${crates[@]}" --target $target --no-run --message-format=json 2>/dev/null |
        sed -n "s#.*/infer/$1/Cargo.toml\".*\"overflow_checks\":[a-z]*,\"test\":true}.*\"executable\":\"\([^\"]*\)\".*#\1#p"
}

install_packages
if has_target; then
    toolchain=
elif has_target +armcross; then
    toolchain=+armcross
else
    unpack_rust
    has_target +armcross || { say "Debian's Rust has no library for $target; run: rustup target add $target"; exit 1; }
    toolchain=+armcross
fi
say "Rust: $(rustc $toolchain --version)"

export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
on() { export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="qemu-aarch64 -cpu $1 -L $sysroot"; }

on max
cargo $toolchain test --release "${crates[@]}" --target $target --no-run

declare -A best=([max]=i8mm [cortex-a76]=dotprod [cortex-a53]=neon)
for cpu in ${RETORT_ARM_CPUS:-max cortex-a76 cortex-a53}; do
    on "$cpu"
    say "testing on $cpu"
    # what the processor has decides which tables exist there: the test prints them, fastest last
    names=$(cargo $toolchain test --release "${crates[@]}" --target $target --lib -- --exact tests::tables_are_named --nocapture 2>/dev/null |
        sed -n 's/.*available kernels: //p')
    say "kernels on $cpu: $names"
    if [ -n "${best[$cpu]:-}" ] && [ "${names##* }" != "${best[$cpu]}" ]; then
        say "the fastest kernels on $cpu should be ${best[$cpu]}"
        exit 1
    fi
    if [ "$cpu" = max ]; then
        cargo $toolchain test --release "${crates[@]}" --target $target
        continue
    fi
    for crate in kernels engine; do
        executables=$(test_executables $crate)
        [ -n "$executables" ] || { say "no test executables of $crate"; exit 1; }
        for executable in $executables; do
            (cd "infer/$crate" && qemu-aarch64 -cpu "$cpu" -L $sysroot "$executable")
        done
    done
done
say "all passed"
