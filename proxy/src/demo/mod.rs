//! `openclaw-edge demo`: the main job on an embedded default, on this machine alone.
//!
//! Small backends run in a thread of their own; the edge itself is the normal server on a normal
//! config file, which the user may edit while it runs. Nothing but loopback is bound.

mod banner;
mod config_file;
mod folder;
mod http;
mod ports;
mod tokens;
mod websocket;

use std::fmt;
use std::path::PathBuf;
use std::process::ExitCode;

use folder::Folder;
use ports::Ports;

/// Flags of `openclaw-edge demo`. Port 0 takes a free one.
#[derive(Clone, Debug, clap::Args)]
pub struct DemoArgs {
    /// Port of plain HTTP on 127.0.0.1, which redirects to https (0: any free one)
    #[arg(long, value_name = "PORT", default_value_t = 8080)]
    pub http_port: u16,
    /// Port of https on 127.0.0.1 (0: any free one)
    #[arg(long, value_name = "PORT", default_value_t = 8443)]
    pub https_port: u16,
    /// Port of the admin server on 127.0.0.1 (0: any free one)
    #[arg(long, value_name = "PORT", default_value_t = 9901)]
    pub admin_port: u16,
    /// Where config and certificates are kept [default: $XDG_RUNTIME_DIR/openclaw-edge-demo,
    /// else the same in the temporary directory]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

/// Prepares the demo and hands its config file to `serve`, which runs the normal server until it
/// is stopped. Exit code 1 where the demo cannot be prepared.
pub fn run_with(args: &DemoArgs, serve: impl FnOnce(PathBuf) -> ExitCode) -> ExitCode {
    match Demo::prepare(args) {
        Ok(demo) => {
            let config = demo.folder.config_path();
            demo.announce_when_ready();
            let code = serve(config);
            drop(demo);
            code
        }
        Err(e) => {
            eprintln!("openclaw-edge demo: {e}");
            ExitCode::FAILURE
        }
    }
}

/// Backends run and the config is written; the edge is not started yet.
struct Demo {
    folder: Folder,
    ports: Ports,
}

impl Demo {
    fn prepare(args: &DemoArgs) -> Result<Demo, Failure> {
        let folder = Folder::open(args.dir.as_deref())?;
        let ports = Ports::choose(args)?;
        let backends = http::start()?;
        folder.write_authority()?;
        folder.write_config(&config_file::text(&folder, &ports, &backends))?;
        Ok(Demo { folder, ports })
    }

    /// The commands work as printed, so they are printed once the edge serves.
    fn announce_when_ready(&self) {
        let banner = banner::Banner::new(&self.folder, &self.ports);
        // Without a thread there is no table; the demo itself is not affected.
        let _ = std::thread::Builder::new()
            .name("demo-banner".to_owned())
            .spawn(move || banner.print_when_ready());
    }
}

/// Why there is no demo: one sentence, with what to do about it.
#[derive(Debug)]
struct Failure(String);

impl Failure {
    fn new(doing: impl fmt::Display, cause: impl fmt::Display) -> Failure {
        Failure(format!("{doing}: {cause}"))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
