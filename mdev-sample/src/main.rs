//! `mdev-sample`: lists, defines and serves sample vGPUs.

mod commands;
mod manage;
mod serve;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use mdev_sample::cli;

/// Sample mediated vGPUs, served over vfio-user.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Types(commands::Types),
    Serve(serve::Serve),
    List(manage::List),
    Create(manage::Create),
    Remove(manage::Remove),
    Replay(commands::Replay),
    AbiFuzz(commands::AbiFuzz),
}

fn main() -> ExitCode {
    cli::run("mdev-sample", |cli: Cli| match cli.command {
        Command::Types(args) => args.run(),
        Command::Serve(args) => args.run(),
        Command::List(args) => args.run(),
        Command::Create(args) => args.run(),
        Command::Remove(args) => args.run(),
        Command::Replay(args) => args.run(),
        Command::AbiFuzz(args) => args.run(),
    })
}
