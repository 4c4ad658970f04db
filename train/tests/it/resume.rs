//! Every family with everything random switched on: a resumed run and a repeated one give the bits of the first.

use std::path::Path;

use fixtures::{
    FaceFeaturesConfig, HeadsConfig, PalmConfig, PedestrianConfig, Size, face_features, heads, palms, pedestrians,
};

use crate::support::{pictures, tensors, train};

/// A run of two epochs, the same run again, and a run that continues the first from the end of epoch 1: all three end
/// with the same bits. Without the settings in `random` the run ends with other bits, so these settings do take part.
fn three_ways(at: &Path, flags: &str, random: &str, directory: impl Fn(&str) -> String) {
    let run = |more: &str| {
        let line = format!("{flags} {more}");
        train(at, &line.split_whitespace().collect::<Vec<_>>()).ok();
    };
    let last = |name: &str| tensors(&at.join(directory(name)).join("final_model.safetensors"));
    let different = |name: &str| {
        let (first, other) = (last("first"), last(name));
        assert!(first.keys().eq(other.keys()));
        first.iter().filter(|(key, bytes)| other[*key] != **bytes).map(|(key, _)| key.clone()).collect::<Vec<_>>()
    };
    let save = |name: &str| format!("--save-dir {}", directory(name));
    run(&format!("{random} {}", save("first")));
    run(&format!("{random} {}", save("again")));
    assert_eq!(different("again"), [""; 0], "the same command");
    let checkpoint = Path::new(&directory("first")).join("checkpoint_epoch_1.safetensors");
    run(&format!("{random} --resume {} {}", checkpoint.display(), save("resumed")));
    assert_eq!(different("resumed"), [""; 0], "resumed after epoch 1");
    run(&save("plain"));
    assert!(!different("plain").is_empty(), "the random settings do nothing");
}

/// Of the runs in `runs/1`, of which all but `plain` average their weights: the average is the network that is kept,
/// the run goes on as without one, and it cannot be continued without it.
fn the_average_is_kept(at: &Path, command: &str) {
    let file = |run: &str, name: &str| tensors(&at.join("runs/1").join(run).join(format!("{name}.safetensors")));
    let (last, plain) = (file("first", "checkpoint_epoch_2"), file("plain", "checkpoint_epoch_2"));
    assert!(last == plain, "the weights of the last step are those of a run without an average");
    assert!(file("first", "final_model") != last && file("plain", "final_model") == plain);
    let line = format!("{command} --resume runs/1/first --ema 0 --epochs 3");
    train(at, &line.split_whitespace().collect::<Vec<_>>()).refused(&["--ema"]);
}

#[test]
fn reid_repeats_with_everything_random() {
    let folder = tempfile::tempdir().unwrap();
    pictures(folder.path(), 8, 4);
    let flags = "reid --datadir data --height 32 --width 32 --batchid 2 --batchimage 2 --n-thread 2 --epochs 2 \
                 --test-every 2 --model ResNet50 --bnneck --loss 0.5*CrossEntropy+0.5*Triplet+0.0005*CenterLoss";
    let random = "--drop-block --random-erasing --probability 0.8 --cutout --center-rule sgd";
    three_ways(folder.path(), flags, random, |name| format!("runs/{name}"));
}

/// Colours, shapes, cameras, an average of weights and a frozen backbone, one by one and all together.
#[test]
fn reid_repeats_with_every_addition() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let size = Size { height: 32, width: 32 };
    let set = PedestrianConfig { train_identities: 6, test_identities: 3, cameras: 3, size, ..Default::default() };
    pedestrians(&set, &at.join("data")).unwrap();
    let flags = "reid --datadir data --data_train market1501 --data_test market1501 --height 32 --width 32 --batchid 3 \
                 --batchimage 4 --n-thread 2 --epochs 2 --test-every 1 --model OSNet_x0_25";
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let start = words(&format!("{flags} --epochs 0 --save-dir runs/start"));
    train(at, &start.iter().map(String::as_str).collect::<Vec<_>>()).ok();
    let flags = format!("{flags} --pre-train runs/start/final_model.safetensors");
    let additions = ["--colour-jitter 0.8", "--rand-augment 2", "--balance-cameras", "--ema 0.9", "--freeze-epochs 1"];
    let all = additions.join(" ");
    for (number, random) in additions.into_iter().chain([all.as_str()]).enumerate() {
        three_ways(at, &flags, random, |name| format!("runs/{number}/{name}"));
    }
    let file = |run: &str| tensors(&at.join(run).join("checkpoint_epoch_1.safetensors"));
    let (before, frozen) = (tensors(&at.join("runs/start/final_model.safetensors")), file("runs/4/first"));
    let moved: Vec<&String> = before.keys().filter(|key| before[*key] != frozen[*key]).collect();
    let is_head = |key: &&String| key.starts_with("fc.") || key.starts_with("classifier.");
    let statistics = |key: &&String| key.contains(".running_") || key.ends_with("num_batches_tracked");
    assert!(moved.iter().any(is_head) && moved.iter().any(statistics), "{moved:?}");
    assert!(moved.iter().all(|key| is_head(key) || statistics(key)), "{moved:?}");
    let thawed = tensors(&at.join("runs/4/first/checkpoint_epoch_2.safetensors"));
    assert_ne!(frozen["conv1.conv.weight"], thawed["conv1.conv.weight"], "from the second epoch all learns");
    // The average is what is kept; the run goes on from the weights of the last step.
    let [last, kept] = ["checkpoint_epoch_2.safetensors", "final_model.safetensors"]
        .map(|file| tensors(&at.join("runs/3/first").join(file)));
    let key = "conv1.conv.weight";
    assert!(last[key] != kept[key] && last[key] != before[key]);
    let plain = tensors(&at.join("runs/3/plain/final_model.safetensors"));
    assert_eq!(last[key], plain[key], "it learns as without an average");
    for line in ["--resume runs/3/first --ema 0 --epochs 3", "--resume runs/0/first --ema 0.9 --epochs 3"] {
        let words = words(&format!("reid {line}"));
        train(at, &words.iter().map(String::as_str).collect::<Vec<_>>()).refused(&["--ema", "--pre-train"]);
    }
}

#[test]
fn senet_repeats_with_everything_random() {
    let folder = tempfile::tempdir().unwrap();
    let set = FaceFeaturesConfig { people: 12, frames: 8, dim: 64, identity_rank: 8, ..Default::default() };
    face_features(&set, &folder.path().join("data")).unwrap();
    let flags = "senet --data_dir data --image_dim 64 --identity_dims 1,5,9 --hidden_dim 32 --batch_size 16 --epochs 2 \
                 --save_interval 1 --dropout 0";
    for (number, random) in ["--dropout 0.4", "--ema 0.9"].into_iter().enumerate() {
        three_ways(folder.path(), flags, random, |name| format!("runs/{number}/{name}"));
    }
    the_average_is_kept(folder.path(), "senet");
}

#[test]
fn controlnet_repeats_with_everything_random() {
    let folder = tempfile::tempdir().unwrap();
    heads(&HeadsConfig { people: 10, frames: 4, size: 24, ..HeadsConfig::default() }, &folder.path().join("data"))
        .unwrap();
    let flags = "controlnet --data_dir data --image_size 16 --feature_dim 8 --max_samples 30 --batch_size 8 --epochs 2 \
                 --save_interval 1 --gradient_accumulation_steps 2 --dropout 0";
    for (number, random) in ["--dropout 0.4 --holdout_poses 0.2", "--ema 0.9"].into_iter().enumerate() {
        three_ways(folder.path(), flags, random, |name| format!("runs/{number}/{name}"));
    }
    the_average_is_kept(folder.path(), "controlnet");
}

const VIT: &str = "--vit-dims 8,8,16 --vit-depths 1,1,1 --vit-heads 2,2,2 --vit-key-dims 4,4,4";

const CNN: &str = "--datadir palms --img-size 32 --cnn-dims 4,8,8,16 --cnn-depths 2,1,1,1 --layer-scale 1 --n-thread 2 \
    --patience 0 --epochs 2 --batch 6 --rotation 0 --translation 0 --brightness 0 --contrast 0";

const MOVED: &str = "--rotation 15 --translation 0.1 --brightness 0.3 --contrast 0.3 --shared-geometry false";

fn draw(at: &Path) {
    palms(&PalmConfig { people: 5, samples: 6, size: 32, ..PalmConfig::default() }, &at.join("palms")).unwrap();
}

/// Stochastic depth is drawn in each of three passes, or in one over all pictures.
#[test]
fn palmvein_stage_1_repeats_with_everything_random() {
    let folder = tempfile::tempdir().unwrap();
    draw(folder.path());
    for mining in ["none", "batch-hard"] {
        let flags = format!(
            "palmvein stage1 --branch cnn-palm --loss triplet+identity --cross-modal --mining {mining} {CNN} {MOVED} \
             --drop-path 0"
        );
        three_ways(folder.path(), &flags, "--drop-path 0.5", |name| format!("runs/{mining}/{name}"));
    }
    let flags = format!("palmvein stage1 --branch cnn-palm {CNN} --drop-path 0");
    three_ways(folder.path(), &flags, "--ema 0.9", |name| format!("runs/1/{name}"));
    the_average_is_kept(folder.path(), "palmvein stage1");
}

#[test]
fn palmvein_stage_2_repeats_with_everything_random() {
    let folder = tempfile::tempdir().unwrap();
    draw(folder.path());
    for mode in ["spatial", "vector"] {
        let flags = format!(
            "palmvein stage2 --from-scratch --freeze-stage1 false --out-dim-global 16 --out-dim-local 16 --lr 0.01 \
             --mode {mode} {VIT} {CNN} --drop-path 0"
        );
        let random = format!("{MOVED} --modality-dropout 0.3 --drop-path 0.5");
        three_ways(folder.path(), &flags, &random, |name| format!("runs/{mode}/{name}"));
        if mode == "vector" {
            three_ways(folder.path(), &flags, "--ema 0.9", |name| format!("runs/1/{name}"));
        }
    }
    the_average_is_kept(folder.path(), "palmvein stage2");
}
