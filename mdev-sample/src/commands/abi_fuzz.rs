//! `abi-fuzz`: a random walk over a device, recorded.

use std::error::Error;
use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;
use mdev_sample::abi_fuzz::{self, KernelTarget, Place, Recording, RemoteTarget, Sample, Target};

/// Walks at random over all calls that a device takes, and records its answers for `replay`.
#[derive(Args)]
pub(crate) struct AbiFuzz {
    /// The device: sample:TYPE, vfio-user:PATH for one that is served (and has no VMM), or vfio:SYSFS-PATH for one of the
    /// kernel's.
    device: Place,
    /// Which walk; the same seed is the same walk.
    #[arg(long, value_name = "N")]
    seed: u64,
    /// How many calls.
    #[arg(long, value_name = "N")]
    steps: u64,
    /// Where the recording is to appear, once it is complete.
    #[arg(long, value_name = "OUT.jsonl")]
    record: Option<PathBuf>,
    /// Leave out the calls that are known to crash the kernel's mbochs.
    #[arg(long)]
    skip_known_crashes: bool,
    /// Needed for a device of the kernel: the walk makes calls that have crashed kernels.
    #[arg(long)]
    yes_this_may_crash_the_kernel: bool,
}

/// Why a device of the kernel is refused.
const MAY_CRASH: &str = "a walk can crash the kernel (its own mbochs dies of a pread of the last two pages of its video \
    memory, and of closing two descriptors of one dma-buf): run it in a throwaway VM, with --yes-this-may-crash-the-kernel";

impl AbiFuzz {
    pub(crate) fn run(&self) -> Result<(), Box<dyn Error>> {
        let mut target: Box<dyn Target> = match &self.device {
            Place::Sample(device_type) => Box::new(Sample::new(*device_type)?),
            Place::Vfio(_) if !self.yes_this_may_crash_the_kernel => {
                return Err(format!("{}: {MAY_CRASH}", self.device).into());
            }
            Place::Vfio(path) => Box::new(KernelTarget::open(path)?),
            Place::VfioUser(path) => Box::new(RemoteTarget::connect(path)?),
        };
        let named = |error: io::Error| match &self.record {
            Some(path) => format!("{}: {error}", path.display()),
            None => error.to_string(),
        };
        let mut recording = self.record.as_deref().map(Recording::create).transpose().map_err(named)?;
        let tally = abi_fuzz::walk(target.as_mut(), self.seed, self.steps, self.skip_known_crashes, |line| {
            recording.as_mut().map_or(Ok(()), |recording| recording.write(line))
        })
        .map_err(named)?;
        recording.map_or(Ok(()), Recording::finish).map_err(named)?;
        writeln!(io::stdout(), "{} seed {}: {tally}", self.device, self.seed)?;
        Ok(())
    }
}
