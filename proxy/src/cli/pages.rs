//! `openclaw-edge completions` and `man`: made from the command line itself, so that they never
//! tell of another one.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{fs, io};

use clap::{Args, Command, ValueEnum};
use clap_complete::Shell;

use super::out;
use super::place::{End, finish};

#[derive(Debug, Args)]
pub struct CompletionsArgs {
    shell: For,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum For {
    Bash,
    Zsh,
    Fish,
}

#[derive(Debug, Args)]
pub struct ManArgs {
    /// Directory of the pages, one per command; made where it is missing
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// The script to stdout.
pub fn completions(args: &CompletionsArgs, mut command: Command) -> ExitCode {
    let shell = match args.shell {
        For::Bash => Shell::Bash,
        For::Zsh => Shell::Zsh,
        For::Fish => Shell::Fish,
    };
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, name, &mut script);
    out::text(&String::from_utf8_lossy(&script));
    ExitCode::SUCCESS
}

/// Section 1, one page per command and subcommand.
pub fn man(args: &ManArgs, command: Command) -> ExitCode {
    finish(write_pages(&args.out, command).map_err(|why| {
        End::No(format!("{}: {why}; name a directory that can be written", args.out.display()))
    }))
}

fn write_pages(dir: &Path, command: Command) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    clap_mangen::generate_to(command, dir)
}
