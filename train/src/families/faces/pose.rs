//! Poses from keypoints, by the rule of the reference: a rough proxy, which does not tell left from right and is not
//! zero for a frontal face. Poses of the metadata, where a set has them, say more.

use crate::words::words;

use super::KEYPOINTS;

words! {
    /// The unit of angles inside a network. In degrees they are a hundred times as large as all else that a network
    /// sees and as its errors: pictures and embeddings then learn late.
    PoseUnit {
        /// As they come.
        Degrees = "degrees",
        /// A profile view is at 1.
        RightAngles = "right-angles",
    }
}

impl PoseUnit {
    /// What a number of degrees is multiplied by.
    pub fn scale(self) -> f64 {
        match self {
            Self::Degrees => 1.0,
            Self::RightAngles => 1.0 / 90.0,
        }
    }
}

/// Yaw, pitch and roll in degrees of normalised keypoints: yaw from the eyes' distance, pitch from the nose's place
/// below them, roll from the line between them.
pub fn from_keypoints(points: &[[f32; 3]; KEYPOINTS]) -> [f64; 3] {
    let [left, right, nose, ..] = points.map(|point| point.map(f64::from));
    let yaw = (right[0] - left[0]).atan2(1.0);
    let pitch = (nose[1] - (left[1] + right[1]) / 2.0).atan2(1.0);
    let roll = (right[1] - left[1]).atan2(right[0] - left[0]);
    [yaw, pitch, roll].map(f64::to_degrees)
}

/// Euclidean distance of two poses in degrees, without wrapping.
pub fn distance(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    use contract::fill::fill;
    use fixtures::Golden;

    use super::*;

    #[test]
    fn poses_and_distances_are_the_references() {
        let golden = Golden::load("controlnet").unwrap();
        let values = fill("input.keypoints", &[8, KEYPOINTS, 3]);
        let faces = values.as_chunks::<3>().0.as_chunks::<KEYPOINTS>().0;
        let poses: Vec<[f64; 3]> = faces.iter().map(from_keypoints).collect();
        let (_, expected) = golden.tensor_f32("keypoint_pose/pose").unwrap();
        for (pose, expected) in poses.iter().flatten().zip(&expected) {
            assert!((pose - f64::from(*expected)).abs() < 1e-4, "{pose} for {expected}");
        }
        let (_, expected) = golden.tensor_f32("keypoint_pose/distance").unwrap();
        let ours = poses.iter().flat_map(|a| poses.iter().map(|b| distance(a, b)));
        for (ours, expected) in ours.zip(&expected) {
            assert!((ours - f64::from(*expected)).abs() < 1e-3, "{ours} for {expected}");
        }
        let case = golden.json()["cases"].as_array().unwrap().iter().find(|case| case["name"] == "keypoint_pose");
        let face = &case.unwrap()["averaged_face"];
        let point = |k: usize| std::array::from_fn(|axis| face["normalised"][k][axis].as_f64().unwrap() as f32);
        let pose = from_keypoints(&std::array::from_fn(point));
        for (axis, angle) in pose.iter().enumerate() {
            assert!((angle - face["pose"][axis].as_f64().unwrap()).abs() < 1e-4, "{pose:?}");
        }
    }
}
