//! Deterministic tensors: the same bits in any language, from a name alone. A golden vector then stores a network's
//! outputs, not its weights or inputs. Rule, version 1, as in the header of the reference vectors.

/// The FNV-1a hash of a name, 64 bit.
pub fn fnv1a64(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// The splitmix64 generator's output for state `x`.
pub fn splitmix64(x: u64) -> u64 {
    let z = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Elements 0..`count` of the tensor called `name`, each in `[0, 1)` with 24 bits.
pub fn unit(name: &str, count: usize) -> impl Iterator<Item = f64> + use<> {
    let seed = fnv1a64(name);
    (0..count as u64).map(move |k| (splitmix64(seed.wrapping_add(k)) >> 40) as f64 / f64::from(1 << 24))
}

/// The float tensor called `name`, row-major. What its values are follows from the name's ending and the rank, so
/// that a network filled this way keeps its activations in range: weights scaled by fan-in, variances positive, and
/// so on.
pub fn fill(name: &str, shape: &[usize]) -> Vec<f32> {
    let count = shape.iter().product::<usize>();
    let value: Box<dyn Fn(f64) -> f64> = if name.starts_with("input") {
        Box::new(|u| 2.0 * u - 1.0)
    } else if name.ends_with(".running_var") {
        Box::new(|u| 0.5 + u)
    } else if name.ends_with(".running_mean") {
        Box::new(|u| 0.1 * (2.0 * u - 1.0))
    } else if count == 1 {
        Box::new(|u| 0.5 + 0.1 * (2.0 * u - 1.0))
    } else if shape.len() == 1 && name.ends_with(".bias") {
        Box::new(|u| 0.1 * (2.0 * u - 1.0))
    } else if shape.len() == 1 {
        Box::new(|u| 1.0 + 0.1 * (2.0 * u - 1.0))
    } else {
        let scale = (3.0 / (count as f64 / shape[0] as f64)).sqrt();
        Box::new(move |u| (2.0 * u - 1.0) * scale)
    };
    unit(name, count).map(|u| value(u) as f32).collect()
}

/// A batch of pictures `[batch, channels, height, width]` of `block`×`block` squares of equal value in [-1, 1). Noise
/// of single pixels pools to nearly the same vector whatever the seed; blocks tell samples apart.
///
/// # Panics
/// If `block` does not divide `height` and `width`.
pub fn blocks(name: &str, [batch, channels, height, width]: [usize; 4], block: usize) -> Vec<f32> {
    assert!(height % block == 0 && width % block == 0, "blocks of {block} do not tile {height}×{width}");
    let (rows, columns) = (height / block, width / block);
    let low = fill(name, &[batch, channels, rows, columns]);
    let mut picture = Vec::with_capacity(batch * channels * height * width);
    for plane in low.chunks_exact(rows * columns) {
        for y in 0..height {
            let row = &plane[y / block * columns..][..columns];
            picture.extend((0..width).map(|x| row[x / block]));
        }
    }
    picture
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers printed by the reference's own `fill.py`.
    #[test]
    fn matches_the_published_rule() {
        assert_eq!(fnv1a64(""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a64("a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(unit("a", 3).collect::<Vec<_>>(), EXPECTED_UNIT_A);
        assert_eq!(fill("input", &[2, 2]), EXPECTED_INPUT);
        assert_eq!(fill("fc.weight", &[2, 3]), EXPECTED_FC);
    }

    #[test]
    fn kinds_of_tensor() {
        assert!(fill("bn.running_var", &[64]).iter().all(|v| (0.5..1.5).contains(v)));
        assert!(fill("bn.weight", &[64]).iter().all(|v| (0.9..1.1).contains(v)));
        assert!(fill("bn.bias", &[64]).iter().all(|v| (-0.1..0.1).contains(v)));
        assert!(fill("conv.weight", &[8, 3]).iter().all(|v| v.abs() <= 1.0));
    }

    #[test]
    fn blocks_repeat_the_low_resolution_fill() {
        let low = fill("input", &[1, 1, 2, 1]);
        assert_eq!(blocks("input", [1, 1, 4, 2], 2), [low[0], low[0], low[0], low[0], low[1], low[1], low[1], low[1]]);
    }
    const EXPECTED_UNIT_A: [f64; 3] = [0.3717309236526489, 0.7538543343544006, 0.3177632689476013];
    const EXPECTED_INPUT: [f32; 4] = [-0.80436337, -0.70504284, 0.1481688, 0.70545554];
    const EXPECTED_FC: [f32; 6] = [-0.030708432, 0.56421185, -0.74129975, -0.5648873, -0.71615636, -0.7457701];
}
