//! Coefficients of a block to its samples: the accurate integer transform of the Independent JPEG Group's library
//! ("islow"), bit for bit.

use super::BLOCK;

/// Fraction bits of the constants.
const CONSTANT: u32 = 13;

/// Fraction bits that the first pass leaves.
const PASS: u32 = 2;

const F_0_298: i32 = 2446;
const F_0_390: i32 = 3196;
const F_0_541: i32 = 4433;
const F_0_765: i32 = 6270;
const F_0_899: i32 = 7373;
const F_1_175: i32 = 9633;
const F_1_501: i32 = 12_299;
const F_1_847: i32 = 15_137;
const F_1_961: i32 = 16_069;
const F_2_053: i32 = 16_819;
const F_2_562: i32 = 20_995;
const F_3_072: i32 = 25_172;

/// Eight values transformed, with `shift` fraction bits taken away. Of damaged pictures the sums may wrap.
#[inline(always)]
fn transform(input: [i32; 8], shift: u32) -> [i32; 8] {
    let times = |value: i32, factor: i32| value.wrapping_mul(factor);
    let sum = |one: i32, other: i32| one.wrapping_add(other);
    let less = |one: i32, other: i32| one.wrapping_sub(other);
    // The even part.
    let z1 = times(sum(input[2], input[6]), F_0_541);
    let tmp2 = less(z1, times(input[6], F_1_847));
    let tmp3 = sum(z1, times(input[2], F_0_765));
    let tmp0 = sum(input[0], input[4]).wrapping_shl(CONSTANT);
    let tmp1 = less(input[0], input[4]).wrapping_shl(CONSTANT);
    let even = [sum(tmp0, tmp3), sum(tmp1, tmp2), less(tmp1, tmp2), less(tmp0, tmp3)];
    // The odd part.
    let [t0, t1, t2, t3] = [input[7], input[5], input[3], input[1]];
    let z5 = times(sum(sum(t0, t2), sum(t1, t3)), F_1_175);
    let z1 = times(sum(t0, t3), -F_0_899);
    let z2 = times(sum(t1, t2), -F_2_562);
    let z3 = sum(times(sum(t0, t2), -F_1_961), z5);
    let z4 = sum(times(sum(t1, t3), -F_0_390), z5);
    let odd = [
        sum(times(t3, F_1_501), sum(z1, z4)),
        sum(times(t2, F_3_072), sum(z2, z3)),
        sum(times(t1, F_2_053), sum(z2, z4)),
        sum(times(t0, F_0_298), sum(z1, z3)),
    ];
    let round = 1 << (shift - 1);
    std::array::from_fn(|at| {
        let value = if at < 4 { sum(even[at], odd[at]) } else { less(even[7 - at], odd[7 - at]) };
        sum(value, round) >> shift
    })
}

/// The samples of a block, row by row, from its coefficients in the same order. Row `y` of them begins at `y * stride`
/// of `out`.
///
/// # Panics
/// If `out` is too short.
pub(super) fn block(coefficients: &[i16; BLOCK], quantisation: &[u16; BLOCK], out: &mut [u8], stride: usize) {
    let mut work = [0_i32; BLOCK];
    let mut columns = [0_i32; BLOCK];
    for ((value, coefficient), factor) in work.iter_mut().zip(coefficients).zip(quantisation) {
        *value = i32::from(*coefficient).wrapping_mul(i32::from(*factor));
    }
    for x in 0..8 {
        let column: [i32; 8] = std::array::from_fn(|y| work[8 * y + x]);
        let done = transform(column, CONSTANT - PASS);
        for y in 0..8 {
            columns[8 * y + x] = done[y];
        }
    }
    for (y, row) in columns.chunks_exact(8).enumerate() {
        let row: &[i32; 8] = row.try_into().expect("eight values");
        let done = transform(*row, CONSTANT + PASS + 3);
        out[y * stride..][..8].copy_from_slice(&done.map(|value| value.saturating_add(128).clamp(0, 255) as u8));
    }
}

/// As [`block`], where all coefficients but the first are 0.
pub(super) fn flat(first: i16, quantisation: u16, out: &mut [u8], stride: usize) {
    let value = i32::from(first).wrapping_mul(i32::from(quantisation)).wrapping_shl(PASS);
    let level = ((value.wrapping_add(1 << (PASS + 2)) >> (PASS + 3)).saturating_add(128)).clamp(0, 255) as u8;
    for y in 0..8 {
        out[y * stride..][..8].fill(level);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Within a level of the transform by its definition, for coefficients as pictures have them.
    #[test]
    fn samples_are_those_of_the_cosine_transform() {
        let quantisation: [u16; BLOCK] = std::array::from_fn(|at| 3 + at as u16);
        for seed in 0..50 {
            let noise = crate::fill::fill(&format!("input.{seed}"), &[BLOCK]);
            let coefficients: [i16; BLOCK] =
                std::array::from_fn(|at| (noise[at] * 300.0 / (1.0 + (at / 8 + at % 8) as f32)) as i16 / 3);
            let mut out = [0; BLOCK];
            block(&coefficients, &quantisation, &mut out, 8);
            for (at, found) in out.iter().enumerate() {
                let mut exact = 128.0;
                for (place, value) in coefficients.iter().enumerate() {
                    let scale = |k: usize| if k == 0 { (0.125_f64).sqrt() } else { 0.5 };
                    let wave = |at: usize, k: usize| {
                        scale(k) * ((2 * at + 1) as f64 * k as f64 * std::f64::consts::PI / 16.0).cos()
                    };
                    let value = f64::from(*value) * f64::from(quantisation[place]);
                    exact += value * wave(at % 8, place % 8) * wave(at / 8, place / 8);
                }
                assert!((f64::from(*found) - exact.clamp(0.0, 255.0)).abs() < 1.0, "{seed}: {found}, {exact}");
            }
        }
    }

    #[test]
    fn a_flat_block_is_the_same_without_its_zeros() {
        for first in [-8000, -2000, -128, -3, 0, 1, 4, 77, 600, 8000] {
            let (mut whole, mut short) = ([0; 16 * 8], [0; 16 * 8]);
            let mut coefficients = [0; BLOCK];
            coefficients[0] = first;
            block(&coefficients, &[7; BLOCK], &mut whole, 16);
            flat(first, 7, &mut short, 16);
            assert_eq!(whole, short, "{first}");
        }
    }
}
