//! How the models of well-known projects want their pictures, as these projects' own code says.

use contract::{Colour, Filter, Orientation};

/// The mean and standard deviation of ImageNet's pictures, pixels being 0 to 1.
const IMAGENET: [[f32; 3]; 2] = [[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]];

/// The same, pixels being 0 to 255.
const IMAGENET_255: [[f32; 3]; 2] = [[123.675, 116.28, 103.53], [58.395, 57.12, 57.375]];

/// The models of a project.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Preset {
    /// Name on the command line.
    pub name: &'static str,
    /// Height and width, for graphs that leave them open; `None` where the project has no usual ones.
    pub size: Option<[usize; 2]>,
    /// Order of colours.
    pub colour: Colour,
    /// How pictures are resized.
    pub filter: Filter,
    /// Whether pictures are turned as their EXIF data say: Pillow does so when asked to, OpenCV unless told otherwise.
    pub orientation: Orientation,
    /// Values of black and of white.
    pub range: [f32; 2],
    /// Mean and standard deviation per channel, of graphs that do not normalise.
    pub mean_std: [[f32; 3]; 2],
    /// Whether the project's exporter puts the normalisation into the graph, which then takes pixels of 0 to 255.
    pub in_graph: bool,
    /// Files that say so: repository and path, with the commit that was read.
    pub sources: &'static [&'static str],
    /// What the project does besides, which is for whoever makes the pictures.
    pub besides: &'static str,
}

/// All of them, by name.
pub const PRESETS: [Preset; 7] = [
    Preset {
        name: "adaface",
        size: Some([112, 112]),
        colour: Colour::Bgr,
        filter: Filter::Bilinear,
        orientation: Orientation::Stored,
        range: [0.0, 1.0],
        mean_std: [[0.5; 3]; 2],
        in_graph: false,
        sources: &[
            "mk-minchul/AdaFace inference.py (to_input) at 9cb9816",
            "mk-minchul/AdaFace face_alignment/align.py (Image.open) at 0783a24",
        ],
        besides: "faces are aligned to 112×112 first",
    },
    Preset {
        name: "clip-reid",
        size: Some([256, 128]),
        colour: Colour::Rgb,
        filter: Filter::Bilinear,
        orientation: Orientation::Stored,
        range: [0.0, 1.0],
        mean_std: [[0.5; 3]; 2],
        in_graph: false,
        sources: &[
            "Syliz517/CLIP-ReID datasets/make_dataloader_clipreid.py (val_transforms) at 4c0eb20",
            "Syliz517/CLIP-ReID configs/person/vit_clipreid.yml at 4c0eb20",
            "Syliz517/CLIP-ReID datasets/bases.py (read_image, Image.open) at 4c0eb20",
        ],
        besides: "",
    },
    Preset {
        name: "fastreid",
        size: Some([256, 128]),
        colour: Colour::Rgb,
        filter: Filter::Bicubic,
        orientation: Orientation::Exif,
        range: [0.0, 255.0],
        mean_std: IMAGENET_255,
        in_graph: true,
        sources: &[
            "JDAI-CV/fast-reid fastreid/config/defaults.py (PIXEL_MEAN, PIXEL_STD, SIZE_TEST) at 0b15ac4",
            "JDAI-CV/fast-reid fastreid/data/transforms/build.py (interpolation=3 is bicubic) at 04fe9fb",
            "JDAI-CV/fast-reid fastreid/data/transforms/functional.py (to_tensor keeps 0 to 255) at 12957f6",
            "JDAI-CV/fast-reid fastreid/modeling/meta_arch/baseline.py (preprocess_image, in the exported graph)",
            "JDAI-CV/fast-reid fastreid/data/data_utils.py (read_image, exif_transpose) at 0deb84f",
        ],
        besides: "",
    },
    Preset {
        name: "insightface",
        size: Some([112, 112]),
        colour: Colour::Rgb,
        filter: Filter::Opencv,
        orientation: Orientation::Exif,
        range: [0.0, 255.0],
        mean_std: [[127.5; 3]; 2],
        in_graph: true,
        sources: &[
            "deepinsight/insightface python-package/insightface/model_zoo/arcface_onnx.py at 2400a75",
            "deepinsight/insightface python-package/insightface/data/image.py (cv2.imread) at 181751c",
        ],
        besides: "faces are aligned to 112×112 by five landmarks first",
    },
    Preset {
        name: "strong-baseline",
        size: None,
        colour: Colour::Rgb,
        filter: Filter::Bilinear,
        orientation: Orientation::Stored,
        range: [0.0, 1.0],
        mean_std: IMAGENET,
        in_graph: false,
        sources: &[
            "michuanhaohao/reid-strong-baseline data/transforms/build.py at 061be38",
            "michuanhaohao/reid-strong-baseline config/defaults.py (PIXEL_MEAN, PIXEL_STD) at 061be38",
            "michuanhaohao/reid-strong-baseline data/datasets/dataset_loader.py (read_image, Image.open) at 4745db1",
        ],
        besides: "",
    },
    Preset {
        name: "torchreid",
        size: Some([256, 128]),
        colour: Colour::Rgb,
        filter: Filter::Bilinear,
        orientation: Orientation::Stored,
        range: [0.0, 1.0],
        mean_std: IMAGENET,
        in_graph: false,
        sources: &[
            "KaiyangZhou/deep-person-reid torchreid/data/transforms.py (transform_te) at 08bb2cc",
            "KaiyangZhou/deep-person-reid torchreid/utils/feature_extractor.py (image_size) at 0f08883",
            "KaiyangZhou/deep-person-reid torchreid/utils/tools.py (read_image, Image.open) at 27c3661",
        ],
        besides: "",
    },
    Preset {
        name: "transreid",
        size: Some([256, 128]),
        colour: Colour::Rgb,
        filter: Filter::Bilinear,
        orientation: Orientation::Stored,
        range: [0.0, 1.0],
        mean_std: [[0.5; 3]; 2],
        in_graph: false,
        sources: &[
            "damo-cv/TransReID datasets/make_dataloader.py (val_transforms) at 4adbe30",
            "damo-cv/TransReID configs/Market/vit_transreid_stride.yml at 6227ebd",
            "damo-cv/TransReID datasets/bases.py (read_image, Image.open) at c27e6bc",
        ],
        besides: "",
    },
];

impl Preset {
    /// The one of that name.
    pub fn named(name: &str) -> Option<&'static Self> {
        PRESETS.iter().find(|preset| preset.name == name)
    }

    /// All names, between commas.
    pub fn names() -> String {
        PRESETS.map(|preset| preset.name).join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table of `docs/contract.md` is this one.
    #[test]
    fn presets_are_documented() {
        let document = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/contract.md")).unwrap();
        for preset in &PRESETS {
            let size = preset.size.map_or_else(|| "ask".to_owned(), |[height, width]| format!("{height}×{width}"));
            let [mean, std] = preset.mean_std.map(|values| match values {
                [a, b, c] if a == b && b == c => a.to_string(),
                values => values.map(|value| value.to_string()).join(", "),
            });
            let [black, white] = preset.range;
            let row = format!(
                "| `{}` | {size} | {} | {} | {} | {black} to {white} | {mean} | {std} | {} |",
                preset.name,
                crate::adopt::word(&preset.colour),
                crate::adopt::word(&preset.filter),
                crate::adopt::word(&preset.orientation),
                if preset.in_graph { "yes" } else { "no" }
            );
            assert!(document.contains(&row), "docs/contract.md should have the row:\n{row}");
            for source in preset.sources {
                assert!(document.contains(source), "docs/contract.md should name `{source}`");
            }
        }
        assert!(PRESETS.is_sorted_by_key(|preset| preset.name));
        let torchreid = Preset::named("torchreid").unwrap();
        assert_eq!((torchreid.colour, torchreid.orientation), (Colour::Rgb, Orientation::Stored));
        assert_eq!(Preset::named("none"), None);
    }
}
