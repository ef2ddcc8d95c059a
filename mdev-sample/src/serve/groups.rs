//! `--type TYPE --socket PATH [--uuid UUID] [--rom FILE]`, as often as there are devices.
//!
//! The first type goes with the first socket, and so on, whichever of the two comes first; a UUID and a ROM go with the pair
//! that began before them. clap's derive has no groups that repeat, so this is by hand, with clap's own errors.

use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, Error, FromArgMatches, value_parser};
use mdev_sample::DeviceType;
use uuid::Uuid;

use crate::commands::parse_type;

/// One device of the command line.
#[derive(Clone, Debug)]
pub(super) struct Group {
    pub(super) device_type: DeviceType,
    pub(super) socket: PathBuf,
    pub(super) uuid: Option<Uuid>,
    pub(super) rom: Option<PathBuf>,
}

/// All of them, in order. There is none only with `--definitions`.
#[derive(Clone, Debug)]
pub(super) struct Groups(pub(super) Vec<Group>);

impl Args for Groups {
    fn augment_args(command: Command) -> Command {
        let arg = |name: &'static str, value: &'static str| {
            Arg::new(name).long(name).value_name(value).action(ArgAction::Append)
        };
        command
            .arg(arg("type", "TYPE").value_parser(parse_type).help("Device type; see `mdev-sample types`"))
            .arg(
                arg("socket", "PATH").value_parser(value_parser!(PathBuf)).help(
                    "Where to listen. Created with mode 0600 when the device is ready; removed at the end",
                ),
            )
            .arg(
                arg("uuid", "UUID")
                    .value_parser(value_parser!(Uuid))
                    .help("The device's name in logs; a random one by default"),
            )
            .arg(arg("rom", "FILE").value_parser(value_parser!(PathBuf)).help(
                "The device's expansion ROM, such as SeaBIOS' vgabios-bochs-display.bin; none by default",
            ))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

/// The values of an argument, and where on the command line each is.
fn values<T: Clone + Send + Sync + 'static>(matches: &ArgMatches, name: &str) -> Vec<(usize, T)> {
    let values = matches.get_many::<T>(name).into_iter().flatten().cloned();
    matches.indices_of(name).into_iter().flatten().zip(values).collect()
}

impl FromArgMatches for Groups {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let (types, sockets) = (values::<DeviceType>(matches, "type"), values::<PathBuf>(matches, "socket"));
        let defined = matches.contains_id("definitions");
        let missing = |text: String| Err(Error::raw(ErrorKind::MissingRequiredArgument, text + "\n"));
        if types.is_empty() && sockets.is_empty() && !defined {
            return missing(
                "nothing to serve: give --type TYPE and --socket PATH, or --definitions DIR".into(),
            );
        }
        if types.len() != sockets.len() {
            let (types, sockets) = (types.len(), sockets.len());
            return missing(format!("each --type needs its --socket: there are {types} and {sockets}"));
        }
        let mut begin = Vec::new();
        let mut groups = Vec::new();
        for ((type_at, device_type), (socket_at, socket)) in types.into_iter().zip(sockets) {
            begin.push(type_at.min(socket_at));
            groups.push(Group { device_type, socket, uuid: None, rom: None });
        }
        // What is given before the first pair goes with that one.
        let owner = |at: usize| begin.iter().rposition(|begin| *begin < at).unwrap_or(0);
        let twice = |option: &str, group: &Group, value: String| {
            let text = format!("two --{option} for {}, the last of them {value}\n", group.socket.display());
            Err(Error::raw(ErrorKind::ArgumentConflict, text))
        };
        for (at, uuid) in values::<Uuid>(matches, "uuid") {
            let Some(group) = groups.get_mut(owner(at)) else { break };
            if group.uuid.replace(uuid).is_some() {
                return twice("uuid", group, uuid.to_string());
            }
        }
        for (at, rom) in values::<PathBuf>(matches, "rom") {
            let Some(group) = groups.get_mut(owner(at)) else { break };
            let value = rom.display().to_string();
            if group.rom.replace(rom).is_some() {
                return twice("rom", group, value);
            }
        }
        Ok(Self(groups))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        groups: Groups,
        #[arg(long)]
        definitions: Option<PathBuf>,
    }

    const A: &str = "11111111-1111-1111-1111-111111111111";
    const B: &str = "22222222-2222-2222-2222-222222222222";

    /// Each group as "type socket first-digit-of-uuid".
    fn parse(line: &str) -> Result<Vec<String>, String> {
        let words = std::iter::once("x").chain(line.split_whitespace());
        let cli = Cli::try_parse_from(words).map_err(|error| error.to_string())?;
        assert!(cli.definitions.is_some() || !cli.groups.0.is_empty());
        let uuid = |group: &Group| group.uuid.map_or('-', |uuid| uuid.to_string().chars().next().unwrap());
        let rom =
            |group: &Group| group.rom.as_ref().map(|rom| format!(" {}", rom.display())).unwrap_or_default();
        let text = |group: &Group| {
            format!("{} {} {}{}", group.device_type.name(), group.socket.display(), uuid(group), rom(group))
        };
        Ok(cli.groups.0.iter().map(text).collect())
    }

    #[test]
    fn pairs_go_together_in_either_order() {
        for line in [
            "--type mdpy-vga --socket a --type mbochs-small --socket b",
            "--socket a --type mdpy-vga --socket b --type mbochs-small",
            "--type mdpy-vga --type mbochs-small --socket a --socket b",
        ] {
            assert_eq!(parse(line).unwrap(), ["mdpy-vga a -", "mbochs-small b -"], "{line}");
        }
        assert!(parse("--definitions d").unwrap().is_empty());
    }

    #[test]
    fn a_uuid_goes_with_the_pair_before_it() {
        let pairs = |a: &str, b: &str| {
            parse(&format!("--type mdpy-vga {a} --socket a --socket b {b} --type mdpy-hd"))
        };
        let (a, b) = (format!("--uuid {A}"), format!("--uuid {B}"));
        assert_eq!(pairs(&a, &b).unwrap(), ["mdpy-vga a 1", "mdpy-hd b 2"]);
        assert_eq!(pairs("", &b).unwrap(), ["mdpy-vga a -", "mdpy-hd b 2"]);
        assert_eq!(pairs(&a, "").unwrap(), ["mdpy-vga a 1", "mdpy-hd b -"]);
        assert_eq!(parse(&format!("{a} --socket a --type mdpy-hd")).unwrap(), ["mdpy-hd a 1"]);
        assert!(pairs("", &format!("{a} {b}")).unwrap_err().contains("two --uuid for b"));
    }

    #[test]
    fn a_rom_goes_with_the_pair_before_it() {
        let line = |rest: &str| parse(&format!("--type mdpy-vga --socket a {rest}"));
        assert_eq!(
            line("--rom x --type mdpy-hd --socket b --rom y").unwrap(),
            ["mdpy-vga a - x", "mdpy-hd b - y"]
        );
        assert_eq!(line("--type mdpy-hd --socket b --rom y").unwrap(), ["mdpy-vga a -", "mdpy-hd b - y"]);
        assert!(line("--rom x --rom y").unwrap_err().contains("two --rom for a, the last of them y"));
    }

    #[test]
    fn what_is_missing_is_named() {
        assert!(parse("").unwrap_err().contains("--type TYPE and --socket PATH, or --definitions"));
        assert!(
            parse("--type mdpy-vga --socket a --type mdpy-hd").unwrap_err().contains("there are 2 and 1")
        );
        assert!(parse("--type mdpy-8k --socket a").unwrap_err().contains("mdpy-8k"));
    }
}
