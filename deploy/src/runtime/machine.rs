//! The machine as this program may use it: cores, limits of its control groups, instructions that matter, devices.

use std::path::{Path, PathBuf};
use std::process::Command;

/// What a program may use of the machine.
#[derive(Debug, Clone, PartialEq)]
pub struct Machine {
    /// Name of the processor or board, where the system tells.
    pub processor: Option<String>,
    /// Cores that this process may run on: by affinity, and by the quota of its control groups rounded down.
    pub cores: usize,
    /// Limits of its control groups.
    pub limits: Limits,
    /// Memory of the machine in bytes, where the system tells.
    pub memory: Option<u64>,
    /// Instructions that networks gain by.
    pub instructions: Vec<Instruction>,
}

/// Limits that the control groups of a process set.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Limits {
    /// Processor time in cores, below which the process is stopped for a while; none where there is no limit.
    pub cores: Option<f64>,
    /// Memory in bytes, beyond which the process is ended; none where there is no limit.
    pub memory: Option<u64>,
}

/// A set of instructions, and whether the processor has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    /// Its usual name.
    pub name: &'static str,
    /// Whether it is here.
    pub here: bool,
    /// What networks gain by it.
    pub what: &'static str,
}

impl Machine {
    /// This machine.
    pub fn read() -> Self {
        let root = Path::new("/");
        Self {
            processor: processor(root),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            limits: Limits::read(root),
            memory: memory(root),
            instructions: instructions(root),
        }
    }

    /// Memory in bytes that the process may have: that of the machine, or less where a control group says so.
    pub fn usable_memory(&self) -> Option<u64> {
        [self.memory, self.limits.memory].into_iter().flatten().min()
    }
}

/// Values from here on stand for no limit of memory in version 1.
const NO_LIMIT: u64 = 1 << 60;

impl Limits {
    /// The limits of this process, in the files of a system below `root`.
    ///
    /// A group is limited by all groups above it, so the smallest counts. In a container the path that the process
    /// sees may begin above what is mounted; the mounted root is then its own group.
    pub(super) fn read(root: &Path) -> Self {
        let mut limits = Self::default();
        let groups = text(&root.join("proc/self/cgroup")).unwrap_or_default();
        let mounted = root.join("sys/fs/cgroup");
        for line in groups.lines() {
            let mut parts = line.splitn(3, ':').skip(1);
            let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
            let has = |name: &str| controllers.split(',').any(|controller| controller == name);
            // Version 1 mounts each controller, or a list of them, in a folder of its own.
            let places: Vec<PathBuf> = match controllers {
                "" => vec![mounted.clone()],
                names => std::iter::once(names).chain(names.split(',')).map(|name| mounted.join(name)).collect(),
            };
            for group in places.iter().flat_map(|place| with_parents(place, path)) {
                if controllers.is_empty() {
                    limits.at_most(text(&group.join("cpu.max")).and_then(|line| quota(&line)));
                    limits.at_most_bytes(number(&group.join("memory.max")));
                }
                if has("cpu") {
                    let read = |name: &str| number(&group.join(name)).map(|value| value as f64);
                    let cores = read("cpu.cfs_quota_us").zip(read("cpu.cfs_period_us")).map(|(time, of)| time / of);
                    limits.at_most(cores);
                }
                if has("memory") {
                    let bytes = number(&group.join("memory.limit_in_bytes"));
                    limits.at_most_bytes(bytes.filter(|bytes| *bytes < NO_LIMIT));
                }
            }
        }
        limits
    }

    fn at_most(&mut self, cores: Option<f64>) {
        let cores = cores.filter(|cores| cores.is_finite() && *cores > 0.0);
        self.cores = [self.cores, cores].into_iter().flatten().reduce(f64::min);
    }

    fn at_most_bytes(&mut self, bytes: Option<u64>) {
        self.memory = [self.memory, bytes].into_iter().flatten().min();
    }
}

/// The folder of a group below where its kind is mounted, and those of all groups above it.
fn with_parents(mounted: &Path, group: &str) -> Vec<PathBuf> {
    // A path with `..` leads out of what is mounted.
    let inside: PathBuf =
        Path::new(group).components().filter(|part| matches!(part, std::path::Component::Normal(_))).collect();
    inside.ancestors().map(|path| mounted.join(path)).collect()
}

/// `200000 100000` of version 2: time and of how much time. `max` is no limit.
fn quota(line: &str) -> Option<f64> {
    let (time, of) = line.trim().split_once(' ')?;
    Some(time.parse::<f64>().ok()? / of.parse::<f64>().ok()?)
}

fn text(path: &Path) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

/// A whole number alone in a file; none for `max` and for -1.
fn number(path: &Path) -> Option<u64> {
    text(path)?.trim().parse().ok()
}

fn memory(root: &Path) -> Option<u64> {
    let facts = text(&root.join("proc/meminfo"))?;
    let line = facts.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? << 10)
}

/// Boards say who they are in the device tree, processors of PCs in a table.
fn processor(root: &Path) -> Option<String> {
    let board = text(&root.join("proc/device-tree/model")).map(|name| name.trim_end_matches('\0').trim().to_owned());
    let listed = || {
        let table = text(&root.join("proc/cpuinfo"))?;
        let names = ["model name", "Model", "Hardware"];
        let value = |line: &str| {
            let (name, value) = line.split_once(':')?;
            names.contains(&name.trim()).then(|| value.trim().to_owned())
        };
        table.lines().find_map(value)
    };
    board.filter(|name| !name.is_empty()).or_else(listed)
}

/// Words of `flags` or `Features` of the table of processors.
#[cfg(target_arch = "x86_64")]
fn flags(root: &Path) -> Vec<String> {
    let table = text(&root.join("proc/cpuinfo")).unwrap_or_default();
    let line = table.lines().find_map(|line| line.strip_prefix("flags").and_then(|rest| rest.split_once(':')));
    line.map(|(_, words)| words.split_whitespace().map(str::to_owned).collect()).unwrap_or_default()
}

#[cfg(target_arch = "x86_64")]
fn instructions(root: &Path) -> Vec<Instruction> {
    let flags = flags(root);
    let listed = |names: &[&str]| names.iter().any(|name| flags.iter().any(|flag| flag == name));
    let of = |name, here, what| Instruction { name, here, what };
    vec![
        of("AVX2", is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"), "float32, 8 at a time"),
        of("AVX-512", is_x86_feature_detected!("avx512f"), "float32, 16 at a time"),
        of("VNNI", is_x86_feature_detected!("avx512vnni") || listed(&["avx_vnni"]), "int8, four products at once"),
        of("AMX int8", listed(&["amx_int8"]), "int8, by tiles"),
        of("AMX bfloat16", listed(&["amx_bf16"]), "bfloat16, by tiles"),
    ]
}

#[cfg(target_arch = "aarch64")]
fn instructions(_: &Path) -> Vec<Instruction> {
    use std::arch::is_aarch64_feature_detected as has;
    let of = |name, here, what| Instruction { name, here, what };
    vec![
        of("NEON", has!("neon"), "float32, 4 at a time"),
        of("fp16", has!("fp16"), "float16, 8 at a time"),
        of("dotprod", has!("dotprod"), "int8, four products at once"),
        of("i8mm", has!("i8mm"), "int8, by small matrices"),
        of("bf16", has!("bf16"), "bfloat16, by small matrices"),
        of("SVE", has!("sve"), "vectors wider than NEON's"),
    ]
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn instructions(_: &Path) -> Vec<Instruction> {
    Vec::new()
}

/// An NVIDIA GPU, as its driver tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gpu {
    /// Its name.
    pub name: String,
    /// Version of the driver.
    pub driver: String,
    /// Its memory, as the driver writes it.
    pub memory: String,
    /// Its compute capability.
    pub compute: String,
}

/// What `nvidia-smi` is asked for.
const ASKED: [&str; 2] = ["--query-gpu=name,driver_version,memory.total,compute_cap", "--format=csv,noheader"];

/// The NVIDIA GPUs, by device number.
///
/// # Errors
/// Why none is known.
pub fn gpus() -> Result<Vec<Gpu>, String> {
    let driver = text(Path::new("/proc/driver/nvidia/version"));
    let driver = driver.and_then(|facts| facts.lines().next().map(str::to_owned));
    let board = || text(Path::new("/etc/nv_tegra_release")).and_then(|facts| facts.lines().next().map(str::to_owned));
    match Command::new("nvidia-smi").args(ASKED).output() {
        Ok(answer) if answer.status.success() => {
            let gpus = listed(&String::from_utf8_lossy(&answer.stdout));
            if gpus.is_empty() { Err("`nvidia-smi` names no GPU".to_owned()) } else { Ok(gpus) }
        }
        Ok(answer) => {
            let said = String::from_utf8_lossy(&answer.stdout).into_owned() + &String::from_utf8_lossy(&answer.stderr);
            Err(format!("`nvidia-smi` fails: {}", said.trim().replace('\n', " ")))
        }
        Err(_) => Err(match (driver, board()) {
            (Some(driver), _) => format!("the driver is loaded ({driver}), and there is no `nvidia-smi` to ask it"),
            (None, Some(board)) => format!("a Jetson ({board}), whose GPU `nvidia-smi` does not list"),
            (None, None) => "no NVIDIA driver is loaded".to_owned(),
        }),
    }
}

/// The lines of `nvidia-smi`.
fn listed(text: &str) -> Vec<Gpu> {
    let gpu = |line: &str| {
        let mut cells = line.split(',').map(|cell| cell.trim().to_owned());
        let mut next = || cells.next().filter(|cell| !cell.is_empty());
        Some(Gpu { name: next()?, driver: next()?, memory: next()?, compute: next()? })
    };
    text.lines().filter_map(gpu).collect()
}

/// Most bytes of memory that this process held at a time, where the system tells.
pub fn peak_memory() -> Option<u64> {
    let facts = text(Path::new("/proc/self/status"))?;
    let line = facts.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A system with these files.
    fn system(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        root
    }

    #[test]
    fn the_smallest_limit_of_all_groups_above_counts() {
        let two = system(&[
            ("proc/self/cgroup", "0::/kube/pod/run\n"),
            ("sys/fs/cgroup/kube/cpu.max", "150000 100000\n"),
            ("sys/fs/cgroup/kube/pod/cpu.max", "max 100000\n"),
            ("sys/fs/cgroup/kube/pod/run/cpu.max", "400000 100000\n"),
            ("sys/fs/cgroup/kube/memory.max", "max\n"),
            ("sys/fs/cgroup/kube/pod/memory.max", "536870912\n"),
            ("sys/fs/cgroup/kube/pod/run/memory.max", "1073741824\n"),
        ]);
        assert_eq!(Limits::read(two.path()), Limits { cores: Some(1.5), memory: Some(512 << 20) });
        // A container that sees the path of the host, and of the groups only its own.
        let inside = system(&[
            ("proc/self/cgroup", "0::/../../elsewhere\n"),
            ("sys/fs/cgroup/cpu.max", "50000 100000\n"),
            ("sys/fs/cgroup/memory.max", "1048576\n"),
        ]);
        assert_eq!(Limits::read(inside.path()), Limits { cores: Some(0.5), memory: Some(1 << 20) });
    }

    #[test]
    fn limits_of_the_first_version() {
        let one = system(&[
            ("proc/self/cgroup", "12:memory:/docker/a\n5:cpu,cpuacct:/docker/a\n1:name=systemd:/docker/a\n"),
            ("sys/fs/cgroup/cpu,cpuacct/docker/a/cpu.cfs_quota_us", "250000\n"),
            ("sys/fs/cgroup/cpu,cpuacct/docker/a/cpu.cfs_period_us", "100000\n"),
            ("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1\n"),
            ("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n"),
            ("sys/fs/cgroup/memory/docker/a/memory.limit_in_bytes", "268435456\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
        ]);
        assert_eq!(Limits::read(one.path()), Limits { cores: Some(2.5), memory: Some(256 << 20) });
    }

    #[test]
    fn no_limit_is_none() {
        let free = system(&[
            ("proc/self/cgroup", "0::/\n"),
            ("sys/fs/cgroup/cpu.max", "max 100000\n"),
            ("sys/fs/cgroup/memory.max", "max\n"),
        ]);
        assert_eq!(Limits::read(free.path()), Limits::default());
        for broken in ["", "nonsense", "0::", "::\n0:cpu"] {
            assert_eq!(Limits::read(system(&[("proc/self/cgroup", broken)]).path()), Limits::default(), "{broken}");
        }
        let zero = system(&[("proc/self/cgroup", "0::/"), ("sys/fs/cgroup/cpu.max", "0 0")]);
        assert_eq!(Limits::read(zero.path()), Limits::default());
    }

    #[test]
    fn boards_and_processors_are_named() {
        let board = system(&[
            ("proc/device-tree/model", "Raspberry Pi 5 Model B Rev 1.0\0"),
            ("proc/cpuinfo", "processor : 0\nmodel name : something else\n"),
            ("proc/meminfo", "MemTotal:        8000000 kB\nMemFree: 1 kB\n"),
        ]);
        assert_eq!(processor(board.path()).as_deref(), Some("Raspberry Pi 5 Model B Rev 1.0"));
        assert_eq!(memory(board.path()), Some(8_192_000_000));
        let pc = system(&[("proc/cpuinfo", "processor\t: 0\nmodel name\t: AMD EPYC\n")]);
        assert_eq!((processor(pc.path()).as_deref(), memory(pc.path())), (Some("AMD EPYC"), None));
    }

    #[test]
    fn gpus_of_nvidia_smi() {
        let gpus = listed("NVIDIA H200, 570.86.15, 143771 MiB, 9.0\nOrin (nvgpu), 540.3.0, [N/A], 8.7\n\nbroken\n");
        assert_eq!((gpus.len(), gpus[0].compute.as_str(), gpus[1].memory.as_str()), (2, "9.0", "[N/A]"));
    }
}
