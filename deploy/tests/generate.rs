//! A model that draws: the source made brighter by the sum of the angles, a hundredth of the range for each degree.

use contract::{Axis, Colour, Filter, InputSpec, ModelContract, OutputSpec, PictureOutput, PictureSpec};
use image::{Rgb, RgbImage};
use onnx::{DataType, GraphProto, ModelProto, TensorProto};

use crate::fixture::{Fixture, contract, graph, node, tensor, value, with_contract};

const SIZE: usize = 16;

fn model() -> ModelProto {
    let batch = || Axis::Symbol("batch".into());
    let picture = PictureSpec {
        mean: vec![0.5; 3],
        std: vec![0.5; 3],
        filter: Filter::Opencv,
        ..PictureSpec::imagenet([SIZE, SIZE])
    };
    let contract = ModelContract {
        family: "controlnet".into(),
        input: vec![InputSpec::picture("image", batch(), picture), InputSpec::numbers("pose", batch(), 3, "degrees")],
        output: vec![OutputSpec {
            name: "generated".into(),
            meaning: "brighter".into(),
            shape: vec![batch(), Axis::Size(3), Axis::Size(SIZE), Axis::Size(SIZE)],
            unit_length: false,
            metric: String::new(),
            picture: Some(PictureOutput { layout: "NCHW".into(), colour: Colour::Rgb, range: [-1.0, 1.0] }),
            map: None,
        }],
        embedding: None,
        golden: None,
        ..contract()
    };
    let shape = TensorProto {
        name: "shape".into(),
        dims: vec![4],
        data_type: DataType::Int64 as i32,
        raw_data: [-1_i64, 1, 1, 1].iter().flat_map(|size| size.to_le_bytes()).collect(),
        ..Default::default()
    };
    let drawing = GraphProto {
        name: "drawing".into(),
        node: vec![
            // Each angle a hundredth of the range, which is 2 wide.
            node("MatMul", &["pose", "weights"], "light", vec![]),
            node("Reshape", &["light", "shape"], "lights", vec![]),
            node("Add", &["image", "lights"], "generated", vec![]),
        ],
        initializer: vec![tensor("weights", &[3, 1], &[0.02; 3]), shape],
        input: vec![value("image", &[3, SIZE, SIZE]), value("pose", &[3])],
        output: vec![value("generated", &[3, SIZE, SIZE])],
        ..Default::default()
    };
    with_contract(ModelProto { graph: Some(drawing), ..graph() }, &contract)
}

pub(crate) fn fixture() -> Fixture {
    let fixture = Fixture::new();
    fixture.write_model("drawing.onnx", &model());
    RgbImage::from_pixel(40, 24, Rgb([100, 110, 120])).save(fixture.path("face.png")).unwrap();
    fixture
}

fn level(fixture: &Fixture, name: &str, x: u32) -> [u8; 3] {
    image::open(fixture.path(name)).unwrap().into_rgb8().get_pixel(x, 3).0
}

#[test]
fn one_pose_a_table_and_a_turntable() {
    let fixture = fixture();
    let at = "generate --model @drawing.onnx --image @face.png";
    fixture.run(&format!("{at} --pose -10,20,0 -o @one.png")).done();
    // 10 hundredths of 255 brighter.
    assert_eq!(level(&fixture, "one.png", 3), [126, 136, 146]);

    std::fs::write(fixture.path("poses.csv"), "yaw,pitch,roll\n0,0,0\n\n-20, 0, 0\n").unwrap();
    let told = fixture.run(&format!("{at} --poses @poses.csv -o @many")).done();
    assert!(told.starts_with("2 poses"), "{told}");
    assert_eq!(level(&fixture, "many/00000.png", 3), [100, 110, 120]);
    assert_eq!(level(&fixture, "many/00001.png", 3), [49, 59, 69]);
    std::fs::write(fixture.path("poses.csv"), "roll;yaw;pitch\n0;-20;0\n").unwrap();
    fixture.run(&format!("{at} --poses @poses.csv -o @other")).done();
    assert_eq!(level(&fixture, "other/00000.png", 3), [49, 59, 69], "columns by name, whatever their order");

    fixture.run(&format!("{at} --turntable --steps 3 --turn 30 -o @strip.png")).done();
    let strip = image::open(fixture.path("strip.png")).unwrap();
    assert_eq!((strip.width(), strip.height()), (48, 16));
    assert_eq!([3, 20, 40].map(|x| level(&fixture, "strip.png", x)[0]), [24, 100, 177]);
}

#[test]
fn a_turntable_goes_round_in_an_animated_picture() {
    let fixture = fixture();
    let at = "generate --model @drawing.onnx --image @face.png --turntable --steps 3 --turn 30";
    fixture.run(&format!("{at} -o @turn.apng")).done();
    let bytes = std::io::Cursor::new(std::fs::read(fixture.path("turn.apng")).unwrap());
    let decoder = image::codecs::png::PngDecoder::new(bytes).unwrap();
    assert!(decoder.is_apng().unwrap());
    let frames = image::AnimationDecoder::into_frames(decoder.apng().unwrap()).collect_frames().unwrap();
    let levels: Vec<u8> = frames.iter().map(|frame| frame.buffer().get_pixel(3, 3).0[0]).collect();
    // There and back, without the ends twice: as it repeats, the first follows the last.
    assert_eq!(levels, [24, 100, 177, 100]);
    assert_eq!(frames[0].delay().numer_denom_ms(), (120, 1));
    fixture.run(&format!("{at} -o @turn.gif")).error(&["turn.gif", ".apng"]);
    fixture.run("generate -m @drawing.onnx --image @face.png --pose 0,0,0 -o @one.jpg").error(&["one.jpg", ".png"]);
    assert!(!fixture.path("turn.gif").exists() && !fixture.path("one.jpg").exists());
}

#[test]
fn what_does_not_fit_is_named() {
    let fixture = fixture();
    let at = "generate --model @drawing.onnx --image @face.png";
    fixture.run(&format!("{at} --pose 1,2 -o @one.png")).error(&["2", "angles", "3"]);
    fixture.run(&format!("{at} --pose 1,2,north -o @one.png")).error(&["--pose", "`north`", "-360", "360"]);
    fixture.run(&format!("{at} -o @one.png")).error(&["--turntable"]);
    std::fs::write(fixture.path("poses.csv"), "0,1,2\n3,4,5\n").unwrap();
    fixture.run(&format!("{at} --poses @poses.csv -o @many")).error(&["poses.csv", "path,yaw,pitch,roll"]);
    std::fs::write(fixture.path("poses.csv"), "yaw,pitch,roll\n1,x,2\n").unwrap();
    fixture.run(&format!("{at} --poses @poses.csv -o @many")).error(&["poses.csv", "2", "`x`"]);
    fixture.run("generate -m @drawing.onnx --image @none.png --pose 0,0,0 -o @one.png").error(&["none.png"]);
    fixture.run("generate -m @model.onnx --image @face.png --pose 0,0,0 -o @one.png").error(&[
        "model.onnx",
        "reid",
        "`image`",
    ]);
    assert!(!fixture.path("one.png").exists());
}
