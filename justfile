# The few tasks that people need, for https://just.systems. Each is one command that can be typed as well.

# As ci/test builds: what one of them compiled, the others need not.
lints := "CARGO_INCREMENTAL=1 RUSTC_WORKSPACE_WRAPPER=clippy-driver CLIPPY_ARGS=-D__CLIPPY_HACKERY__warnings__CLIPPY_HACKERY__"

# What there is
default:
    @just --list

# Format, walls between crates, unused dependencies, lints of one crate: seconds where it has no Burn
check crate="deploy":
    cargo fmt --all
    ci/walls
    ci/circles
    ci/dependencies
    {{lints}} cargo check --release --locked --tests --package {{crate}}

# Everything, as CI runs it
test:
    ci/test

# Tests whose name has FILTER in it, of a crate without Burn: deploy, report, datasets, vitrine-gallery, vitrine-metrics,
# vitrine-files, vitrine-contract, vitrine-onnx
one crate filter:
    {{lints}} cargo test --release --locked --package {{crate}} -- {{filter}}

# The same of train (SUITE it) or export (SUITE main)
one-burn suite filter:
    {{lints}} cargo test --release --locked --workspace --test {{suite}} -- {{filter}}

# Check the guide and make the book in .cache/guide
guide:
    ci/guide --build

# Measure, beside a named peer in the same run; without a name it says what there is
bench *names:
    ci/bench {{names}}

# An archive to release: `just package`, `just package aarch64`, `just package --all`
package *what:
    ci/package {{what}}
