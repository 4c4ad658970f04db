//! From the values that a tensor took to the range that is worth representing.

/// How the range of a tensor is chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Method {
    /// The smallest and the largest value seen.
    MinMax,
    /// The middle `share` of all values, above 0 and at most 1.
    Percentile {
        /// Share of the values inside.
        share: f64,
    },
    /// The threshold of magnitude at which the quantised distribution diverges least (Migacz 2017).
    Entropy,
}

/// Bins of a histogram.
pub const BINS: usize = 2048;

/// Counts of the values of one tensor, in bins of equal width over `[low, high]`, and of their magnitudes.
#[derive(Debug, Clone, PartialEq)]
pub struct Histogram {
    low: f32,
    high: f32,
    values: Vec<u64>,
    magnitudes: Vec<u64>,
}

impl Histogram {
    /// An empty histogram over a range that was seen before.
    pub fn new([low, high]: [f32; 2]) -> Self {
        Self { low, high, values: vec![0; BINS], magnitudes: vec![0; BINS] }
    }

    fn largest(&self) -> f32 {
        self.low.abs().max(self.high.abs())
    }

    /// Counts values; those outside the range count at its ends, NaN not at all.
    pub fn add(&mut self, values: &[f32]) {
        let width = (self.high - self.low) / BINS as f32;
        let largest = self.largest();
        if width.is_nan() || width <= 0.0 || width.is_infinite() {
            return;
        }
        for &value in values.iter().filter(|value| !value.is_nan()) {
            let bin = ((value - self.low) / width).clamp(0.0, (BINS - 1) as f32) as usize;
            self.values[bin] += 1;
            let bin = (value.abs() / largest * BINS as f32).min((BINS - 1) as f32) as usize;
            self.magnitudes[bin] += 1;
        }
    }

    /// The range by `method`. It lies within the one that the histogram was made for.
    pub fn range(&self, method: Method) -> [f32; 2] {
        match method {
            Method::MinMax => [self.low, self.high],
            Method::Percentile { share } => self.percentile(share),
            Method::Entropy => {
                let limit = self.largest() * (self.threshold() as f32 / BINS as f32);
                [self.low.max(-limit), self.high.min(limit)]
            }
        }
    }

    fn percentile(&self, share: f64) -> [f32; 2] {
        let count: u64 = self.values.iter().sum();
        if count == 0 {
            return [self.low, self.high];
        }
        let outside = (count as f64 * (1.0 - share) / 2.0).floor() as u64;
        let cut = |bins: &mut dyn Iterator<Item = &u64>| {
            let mut left = outside;
            bins.take_while(|&&bin| {
                let all = bin <= left;
                left = left.saturating_sub(bin);
                all
            })
            .count()
        };
        let (below, above) = (cut(&mut self.values.iter()), cut(&mut self.values.iter().rev()));
        // The ends are exact, whatever the rounding between them.
        let edge = |bins: usize| match bins {
            0 => self.low,
            BINS => self.high,
            _ => self.low + (self.high - self.low) * (bins as f32 / BINS as f32),
        };
        if below + above >= BINS {
            return [self.low, self.high];
        }
        [edge(below).max(self.low), edge(BINS - above).min(self.high)]
    }

    /// Number of bins of magnitude within the best threshold.
    fn threshold(&self) -> usize {
        // Levels of one sign: all 256 of values that have one, half of them of the others.
        let levels = if self.low >= 0.0 || self.high <= 0.0 { 256 } else { 128 };
        let mut best = (f64::INFINITY, BINS);
        for bins in (levels..=BINS).step_by(levels / 8) {
            let divergence = divergence(&self.magnitudes, bins, levels);
            if divergence < best.0 {
                best = (divergence, bins);
            }
        }
        best.1
    }
}

/// Kullback-Leibler divergence of a distribution cut off after `bins` bins from itself in `levels` steps. The bin of
/// zeros does not count: zero is exact at any scale, and after a ReLU it would hide all others.
fn divergence(counts: &[u64], bins: usize, levels: usize) -> f64 {
    let mut cut: Vec<f64> = counts[..bins].iter().map(|&count| count as f64).collect();
    cut[0] = 0.0;
    let inside = cut.clone();
    cut[bins - 1] += counts[bins..].iter().sum::<u64>() as f64;
    let total: f64 = cut.iter().sum();
    if total == 0.0 {
        return f64::INFINITY;
    }
    let mut steps = vec![0.0; bins];
    for level in 0..levels {
        let (start, end) = (level * bins / levels, (level + 1) * bins / levels);
        let used = cut[start..end].iter().filter(|count| **count > 0.0).count();
        let mean = inside[start..end].iter().sum::<f64>() / used.max(1) as f64;
        for (step, count) in steps[start..end].iter_mut().zip(&cut[start..end]) {
            *step = if *count > 0.0 { mean } else { 0.0 };
        }
    }
    let stepped: f64 = steps.iter().sum();
    if stepped == 0.0 {
        return f64::INFINITY;
    }
    // A bin that lost all it had would be infinitely far: as much as a thousandth of a value is left in it.
    let term =
        |(p, q): (&f64, &f64)| if *p > 0.0 { p / total * ((p / total) / (q.max(1e-3) / stepped)).ln() } else { 0.0 };
    cut.iter().zip(&steps).map(term).sum()
}

/// Scale and zero point of a tensor.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Affine {
    /// Difference between neighbouring levels; above 0.
    pub scale: f32,
    /// The level of 0.
    pub zero: i32,
}

/// Scales below it are no use: runtimes divide by them.
const LEAST: f32 = 1e-30;

fn usable(scale: f32) -> f32 {
    if scale.is_finite() && scale >= LEAST { scale } else { 1.0 }
}

impl Affine {
    /// Unsigned bytes over `[low, high]` and 0: a range that starts at 0 has zero point 0.
    pub fn unsigned([low, high]: [f32; 2]) -> Self {
        let (low, high) = (low.min(0.0), high.max(0.0));
        let scale = usable((high - low) / 255.0);
        Self { scale, zero: (-low / scale).round_ties_even().clamp(0.0, 255.0) as i32 }
    }

    /// Signed bytes around 0, from -127 to 127.
    pub fn symmetric([low, high]: [f32; 2]) -> Self {
        Self { scale: usable(low.abs().max(high.abs()) / 127.0), zero: 0 }
    }
}
