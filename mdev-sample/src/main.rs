//! `mdev-sample`: lists and serves sample vGPUs.

use std::error::Error;
use std::fs::File;
use std::io::{self, BufReader, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use mdev_sample::abi_fuzz::{self, KernelTarget, Place, Recording, RemoteTarget, Sample, Target};
use mdev_sample::replay::{self, Tally};
use mdev_sample::{DeviceType, TYPES, UnknownType, cli};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use uuid::Uuid;
use vfio_gfx::device::{Interfaces, SharedDevice};
use vfio_gfx::vfio_user::{Server, Until};

/// Sample mediated vGPUs, served over vfio-user.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Lists the device types.
    Types {
        /// One JSON object per line, with the kernel's attribute names.
        #[arg(long)]
        json: bool,
    },
    /// Serves one device on a Unix socket until SIGINT or SIGTERM.
    Serve(Serve),
    /// Makes recorded calls to our devices and compares the answers with the kernel's.
    Replay(Replay),
    /// Walks at random over all calls that a device takes, and records its answers for `replay`.
    AbiFuzz(AbiFuzz),
}

#[derive(Args)]
struct AbiFuzz {
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

#[derive(Args)]
struct Replay {
    /// Replay on a device of this type, instead of the one that each recording names.
    #[arg(long = "type", value_name = "TYPE", value_parser = parse_type)]
    device_type: Option<DeviceType>,
    /// Recordings, one JSON object per line.
    #[arg(required = true, value_name = "FILE.jsonl")]
    files: Vec<PathBuf>,
}

#[derive(Args)]
struct Serve {
    /// Device type; see `mdev-sample types`.
    #[arg(long = "type", value_name = "TYPE", value_parser = parse_type)]
    device_type: DeviceType,
    /// Where to listen. Created with mode 0600 when the device is ready; removed at the end.
    #[arg(long, value_name = "PATH")]
    socket: PathBuf,
    /// The device's name in logs; a random one by default.
    #[arg(long)]
    uuid: Option<Uuid>,
    /// How planes are handed over; by default as the kernel's driver of the type does.
    #[arg(long, value_enum)]
    interfaces: Option<Offer>,
    /// End when the VMM that attached has gone.
    #[arg(long)]
    once: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Offer {
    Region,
    Dmabuf,
    Both,
}

fn parse_type(name: &str) -> Result<DeviceType, UnknownType> {
    DeviceType::find(name)
}

fn main() -> ExitCode {
    cli::run("mdev-sample", |cli: Cli| match cli.command {
        Command::Types { json } => types(json),
        Command::Serve(args) => serve(&args),
        Command::Replay(args) => replay(&args),
        Command::AbiFuzz(args) => abi_fuzz(&args),
    })
}

fn types(json: bool) -> Result<(), Box<dyn Error>> {
    let mut out = io::stdout().lock();
    for t in TYPES {
        if json {
            writeln!(out, "{}", t.to_json())?;
        } else {
            writeln!(out, "{:<14} {}", t.name(), t.description())?;
        }
    }
    Ok(())
}

fn serve(args: &Serve) -> Result<(), Box<dyn Error>> {
    let interfaces = args.interfaces.map(|offer| match offer {
        Offer::Region => Interfaces::REGION,
        Offer::Dmabuf => Interfaces::DMABUF,
        Offer::Both => Interfaces::all(),
    });
    // From here on a signal ends the server, not the process.
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let uuid = args.uuid.unwrap_or_else(Uuid::new_v4);
    let device = SharedDevice::new(args.device_type.create(interfaces)?);
    let mut server = Server::bind(device, &args.socket)?;
    let stopper = server.stopper()?;
    std::thread::spawn(move || {
        if signals.forever().next().is_some() {
            stopper.stop();
        }
    });
    let (name, path) = (args.device_type.name(), args.socket.display());
    // Whoever started it need not listen.
    let _ = writeln!(io::stdout(), "mdev-sample: {name} {uuid} ready on {path}");
    let until = if args.once { Until::VmmGone } else { Until::Stopped };
    Ok(server.run(until)?)
}

fn replay(args: &Replay) -> Result<(), Box<dyn Error>> {
    let mut out = io::stdout().lock();
    let mut total = Tally::default();
    for path in &args.files {
        let named = |error: &dyn Error| format!("{}: {}", path.display(), cli::Chain(error));
        let file = File::open(path).map_err(|error| named(&error))?;
        let tally = replay::replay(BufReader::new(file), args.device_type, |mismatch| {
            let record = &mismatch.record;
            writeln!(out, "{}: record {} ({}): {}", path.display(), record.seq, record.op, mismatch.line)?;
            for (field, kernel, ours) in &mismatch.fields {
                writeln!(out, "  {field}: kernel {kernel:?}, ours {ours:?}")?;
            }
            Ok(())
        })
        .map_err(|error| named(&error))?;
        writeln!(out, "{}: {}", path.display(), summary(&tally))?;
        total.add(&tally);
    }
    for deviation in replay::DEVIATIONS {
        if let Some(count) = total.deviations.get(deviation.id) {
            writeln!(out, "deviation {}: {count} fields", deviation.id)?;
        }
    }
    writeln!(out, "total: {}", summary(&total))?;
    match total.mismatching {
        0 => Ok(()),
        count => Err(format!("{count} records do not match the kernel's answers").into()),
    }
}

/// Why a device of the kernel is refused.
const MAY_CRASH: &str = "a walk can crash the kernel (its own mbochs dies of a pread of the last two pages of its video \
    memory, and of closing two descriptors of one dma-buf): run it in a throwaway VM, with --yes-this-may-crash-the-kernel";

fn abi_fuzz(args: &AbiFuzz) -> Result<(), Box<dyn Error>> {
    let mut target: Box<dyn Target> = match &args.device {
        Place::Sample(device_type) => Box::new(Sample::new(*device_type)?),
        Place::Vfio(_) if !args.yes_this_may_crash_the_kernel => {
            return Err(format!("{}: {MAY_CRASH}", args.device).into());
        }
        Place::Vfio(path) => Box::new(KernelTarget::open(path)?),
        Place::VfioUser(path) => Box::new(RemoteTarget::connect(path)?),
    };
    let named = |error: io::Error| match &args.record {
        Some(path) => format!("{}: {error}", path.display()),
        None => error.to_string(),
    };
    let mut recording = args.record.as_deref().map(Recording::create).transpose().map_err(named)?;
    let tally = abi_fuzz::walk(target.as_mut(), args.seed, args.steps, args.skip_known_crashes, |line| {
        recording.as_mut().map_or(Ok(()), |recording| recording.write(line))
    })
    .map_err(named)?;
    recording.map_or(Ok(()), Recording::finish).map_err(named)?;
    writeln!(io::stdout(), "{} seed {}: {tally}", args.device, args.seed)?;
    Ok(())
}

fn summary(tally: &Tally) -> String {
    let Tally { records, same, deviating, mismatching, .. } = tally;
    format!("{records} records, {same} same, {deviating} deviations, {mismatching} mismatches")
}
